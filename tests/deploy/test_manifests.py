"""The manifests: each file is valid by its own schema, and agrees with the program."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from receiver.config.load import load_settings
from receiver.rules.rule import Rule
from tests.support.deploy import DEPLOY, HERE, SECRETS, ran, tool

KUSTOMIZE = DEPLOY / "kustomize"
WHOLE = {
    "DATABASE_URL": "postgresql://receiver:canary@postgres/receiver",
    "RECEIVER_SECRET_KEY": "a-secret-key-that-is-long-enough-0123456789",
    "RECEIVER_ADMIN_PASSWORD": "admin-canary",
    "RECEIVER_METRICS_TOKEN": "metrics-canary",
    "EDGEGAP_TOKEN": "edgegap-canary",
    "DOCKERHUB_USERNAME": "studio-bot",
    "DOCKERHUB_TOKEN": "hub-canary",
}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def manifests() -> dict[str, Any]:
    """What kustomize would apply, by kind."""
    listed = read(KUSTOMIZE / "kustomization.yaml")["resources"]
    return {one["kind"]: one for one in (read(KUSTOMIZE / name) for name in listed)}


def secrets_are_found(variables: dict[str, str], mounted_at: str, folder: Path) -> None:
    """Each NAME_FILE names a file that is mounted, and the program reads its secret from it."""
    files = {name: path for name, path in variables.items() if name.endswith("_FILE")}
    assert {name.removesuffix("_FILE") for name in files} == set(WHOLE)
    environ = {}
    for name, path in files.items():
        assert path.startswith(mounted_at)
        file = folder / path.removeprefix(mounted_at).strip("/")
        file.write_text(WHOLE[name.removesuffix("_FILE")] + "\n", "utf-8")
        environ[name] = str(file)
    settings = load_settings({**environ, "RECEIVER_CONFIG_TOML": rules().read_text("utf-8")})
    said = [secret.reveal() for secret in settings.secrets()]
    assert {"edgegap-canary", "admin-canary", "hub-canary"} <= set(said)
    assert settings.database_url.drivername.startswith("postgresql")


def rules() -> Path:
    return KUSTOMIZE / "rules.toml"


def test_compose_obeys_its_specification() -> None:
    checker = tool("check-jsonschema", "pip install check-jsonschema")
    file = DEPLOY / "compose.yaml"

    checked = ran(checker, "--builtin-schema", "vendor.compose-spec", file)
    assert checked.returncode == 0, checked.stdout


def test_what_compose_names_is_there(tmp_path: Path) -> None:
    answer = read(DEPLOY / "compose.yaml")
    services = answer["services"]

    for name, service in services.items():
        assert set(service.get("secrets", ())) <= set(answer["secrets"]), name
        assert set(service["networks"]) <= set(answer["networks"]), name
        assert set(service.get("depends_on", ())) <= set(services), name
    build = services["receiver"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert services["receiver"]["read_only"] is True
    assert "ports" not in services["receiver"]  # only the proxy may be reached
    assert answer["networks"]["back"]["internal"] is True
    files = {name: one["file"] for name, one in answer["secrets"].items()}
    assert files == {name: f"./secrets/{name}" for name in files}
    secrets_are_found(services["receiver"]["environment"], "/run/secrets", tmp_path)


def test_compose_rotates_its_logs() -> None:
    for name, service in read(DEPLOY / "compose.yaml")["services"].items():
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name


def test_kubernetes_knows_every_field() -> None:
    checker = tool("kubernetes-validate", "pip install kubernetes-validate")
    listed = read(KUSTOMIZE / "kustomization.yaml")["resources"]

    checked = ran(checker, "--strict", *(KUSTOMIZE / name for name in listed))
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("passed for resource") == len(listed)


def test_what_kustomize_names_is_there() -> None:
    answer = read(KUSTOMIZE / "kustomization.yaml")
    there = {path.name for path in KUSTOMIZE.glob("*.yaml")} - {"kustomization.yaml"}

    assert set(answer["resources"]) == there
    (generated,) = answer["configMapGenerator"]
    assert generated["files"] == ["receiver.toml=rules.toml"]
    (rule,) = load_settings({"RECEIVER_CONFIG": str(rules())}).rules
    assert isinstance(rule, Rule)
    container = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert [one["name"] for one in answer["images"]] == [container["image"]]


def test_the_manifests_find_each_other() -> None:
    found = manifests()
    pod = found["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    container = pod["spec"]["containers"][0]

    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert (
        found["PodDisruptionBudget"]["spec"]["minAvailable"]
        < (found["Deployment"]["spec"]["replicas"])
    )
    (port,) = found["Service"]["spec"]["ports"]
    assert port["targetPort"] == container["ports"][0]["name"]
    (backend,) = found["Ingress"]["spec"]["rules"][0]["http"]["paths"]
    assert backend["backend"]["service"]["name"] == found["Service"]["metadata"]["name"]
    assert {one["name"] for one in container["volumeMounts"]} == {
        one["name"] for one in pod["spec"]["volumes"]
    }


def test_the_pods_may_do_little_and_are_asked_how_they_are(tmp_path: Path) -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    asked = {kind: container[kind]["httpGet"]["path"] for kind in container if "Probe" in kind}
    assert asked == {
        "startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz",
    }  # fmt: skip
    (port,) = container["ports"]
    for kind in asked:
        assert container[kind]["httpGet"]["port"] == port["name"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables.get("PORT", "8000") == str(port["containerPort"])
    secrets_are_found(variables, "/run/secrets/receiver", tmp_path)


def test_the_pods_reach_their_database_and_what_they_ask_and_no_more() -> None:
    policy = manifests()["NetworkPolicy"]["spec"]
    ports = {one["port"] for rule in policy["egress"] for one in rule.get("ports", ())}

    assert ports == {53, 443, 5432}
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    (let_in,) = policy["ingress"]  # from the ingress alone
    assert [[*one] for one in let_in["from"]] == [["namespaceSelector"]]
    assert [one["port"] for one in let_in["ports"]] == ["http"]


def test_the_pages_make_the_secrets_that_are_named() -> None:
    kubernetes = (DEPLOY / "kubernetes.md").read_text("utf-8")
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (mounted,) = [one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one]
    assert f"create secret generic {mounted} " in kubernetes
    variables = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    for name, path in variables.items():
        if name.endswith("_FILE"):
            assert f"--from-literal={Path(path).name}=" in kubernetes

    docker = (DEPLOY / "docker.md").read_text("utf-8")
    for name in read(DEPLOY / "compose.yaml")["secrets"]:
        assert re.search(rf"> secrets/{name}\b", docker), name


def test_who_stands_in_front_asks_where_the_receiver_listens() -> None:
    compose = read(DEPLOY / "compose.yaml")["services"]
    assert compose["caddy"]["environment"]["UPSTREAM"] == "receiver:8000"
    assert re.search(r"^    PORT=8000$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    fly = tomllib.loads((DEPLOY / "fly.toml").read_text("utf-8"))
    assert [check["path"] for check in fly["http_service"]["checks"]] == ["/readyz"]
    (render,) = read(DEPLOY / "render.yaml")["services"]
    assert render["healthCheckPath"] == "/readyz"


def test_systemd_finds_no_fault_and_little_exposed(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "apt-get install systemd")
    text = (DEPLOY / "systemd/receiver.service").read_text("utf-8")
    assert "ExecStart=/opt/receiver/bin/receiver serve" in text
    unit = tmp_path / "receiver.service"
    # It looks for the program, which is not installed there where the tests run.
    unit.write_text(text.replace("/opt/receiver/bin/receiver", tool("receiver", "")), "utf-8")

    verified = ran(analyze, "verify", "--man=no", unit)
    assert (verified.returncode, verified.stdout) == (0, "")
    rated = ran(analyze, "security", "--offline=yes", "--threshold=11", "--no-pager", unit)
    assert rated.returncode == 0, rated.stdout
    assert "Overall exposure level for receiver.service: 1.1" in rated.stdout


def test_systemd_finds_no_fault_with_the_nightly_backup(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "apt-get install systemd")
    for name in ("receiver-backup.service", "receiver-backup.timer"):
        text = (DEPLOY / "systemd" / name).read_text("utf-8")
        (tmp_path / name).write_text(
            text.replace("/opt/receiver/bin/receiver", tool("receiver", "")), "utf-8"
        )

    units = (tmp_path / "receiver-backup.service", tmp_path / "receiver-backup.timer")
    verified = ran(analyze, "verify", "--man=no", *units)
    assert (verified.returncode, verified.stdout) == (0, "")


def test_a_backups_pod_gets_no_traffic_and_finds_its_volume() -> None:
    found = manifests()
    pod = found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]
    selected = found["Service"]["spec"]["selector"]
    claims = [one["persistentVolumeClaim"]["claimName"] for one in pod["spec"]["volumes"]
              if "persistentVolumeClaim" in one]  # fmt: skip

    component = "app.kubernetes.io/component"
    assert pod["metadata"]["labels"][component] != selected[component]
    assert claims == [found["PersistentVolumeClaim"]["metadata"]["name"]]


def test_systemd_hands_over_every_secret_that_is_named() -> None:
    text = (DEPLOY / "systemd/receiver.service").read_text("utf-8")

    handed = re.findall(r"^LoadCredential=([\w-]+):/etc/receiver/secrets/\1$", text, re.MULTILINE)
    read_from = re.findall(r"^Environment=\w+_FILE=%d/([\w-]+)$", text, re.MULTILINE)
    assert handed == read_from == list(SECRETS)


def test_the_move_to_postgresql_reaches_the_unit_and_the_command(tmp_path: Path) -> None:
    """The page changed the unit's URL alone: the command beside it used the old ledger."""
    page = (DEPLOY / "systemd.md").read_text("utf-8")
    unit = (DEPLOY / "systemd/receiver.service").read_text("utf-8")
    drop_in = re.search(
        r"receiver\.service\.d/postgresql\.conf <<'END'\n(.*?)END\n", page, re.DOTALL
    )
    command = re.search(r"/usr/local/bin/receiver <<'END'\n(.*?)   END\n", page, re.DOTALL)
    edit = re.search(r"^sed -i ('[^']+') /usr/local/bin/receiver$", page, re.MULTILINE)
    assert drop_in
    assert command
    assert edit
    (tmp_path / "receiver.service.d").mkdir()
    (tmp_path / "receiver.service.d" / "postgresql.conf").write_text(drop_in[1], "utf-8")
    (tmp_path / "receiver").write_text(command[1], "utf-8")
    program = tool("receiver", "")
    whole = tmp_path / "receiver.service"
    whole.write_text(unit.replace("/opt/receiver/bin/receiver", program), "utf-8")

    verified = ran(tool("systemd-analyze", "apt-get install systemd"), "verify", "--man=no", whole)
    subprocess.run(["/bin/sh", "-c", f"sed -i {edit[1]} receiver"], cwd=tmp_path, check=True)

    assert (verified.returncode, verified.stdout) == (0, "")
    assert "LoadCredential=database-url:/etc/receiver/secrets/database-url\n" in drop_in[1]
    assert "Environment=DATABASE_URL= DATABASE_URL_FILE=%d/database-url\n" in drop_in[1]
    edited = (tmp_path / "receiver").read_text("utf-8")
    assert "DATABASE_URL_FILE=$s/database-url " in edited
    assert "sqlite:" not in edited


def test_the_systemd_page_makes_each_place_before_it_writes_there() -> None:
    page = (DEPLOY / "systemd.md").read_text("utf-8")
    unit = (DEPLOY / "systemd/receiver.service").read_text("utf-8")
    made = page.index("install -d -o root -g receiver -m 0750 /etc/receiver /etc/receiver/secrets")

    assert made < page.index("> /etc/receiver/receiver.toml")
    assert made < page.index("cd /etc/receiver/secrets")
    assert "Documentation=file:///opt/receiver/README.md" in unit
    assert "install -m 0644 README.md /opt/receiver/\n" in page


def test_fly_keeps_the_ledger_on_the_volume_and_never_sleeps() -> None:
    answer = tomllib.loads((DEPLOY / "fly.toml").read_text("utf-8"))

    assert (DEPLOY / answer["build"]["dockerfile"]).is_file()
    path = load_settings(answer["env"]).database_url.database
    assert path is not None
    assert Path(path).parent == Path(answer["mounts"]["destination"])
    assert answer["http_service"]["auto_stop_machines"] == "off"
    assert answer["http_service"]["internal_port"] == 8000
    assert [one["path"] for one in answer["http_service"]["checks"]] == ["/readyz"]


def test_render_keeps_the_ledger_in_its_postgresql() -> None:
    answer = read(DEPLOY / "render.yaml")
    (service,) = answer["services"]
    variables = {one["key"]: one for one in service["envVars"]}

    assert (HERE / service["dockerfilePath"]).is_file()
    assert variables["DATABASE_URL"]["fromDatabase"]["name"] == answer["databases"][0]["name"]
    assert set(WHOLE) <= set(variables)
    assert variables["PORT"]["value"] == "8000"
    assert service["healthCheckPath"] == "/readyz"


def test_every_way_has_a_page_and_every_page_is_in_the_index() -> None:
    index = (DEPLOY / "README.md").read_text("utf-8")
    pages = sorted(path.name for path in DEPLOY.glob("*.md") if path.name != "README.md")

    assert pages == [
        "docker.md", "fly.md", "heroku.md", "kubernetes.md", "proxies.md", "render.md", "systemd.md"
    ]  # fmt: skip
    for page in pages:
        assert f"]({page})" in index
        text = (DEPLOY / page).read_text("utf-8")
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (DEPLOY / link).exists(), f"{page} names {link}"


def test_every_file_here_is_named_by_a_page() -> None:
    pages = "".join(path.read_text("utf-8") for path in DEPLOY.glob("*.md"))
    for name in ("Dockerfile", "compose.yaml", "Caddyfile", "nginx.conf", "fly.toml", "render.yaml",
                 "systemd/receiver.service", "kustomize"):  # fmt: skip
        assert (DEPLOY / name).exists()
        assert name in pages
