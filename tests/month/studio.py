"""The studio: its repositories, the rules for them, and the tags that its builds push."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

GOOD, ARM = ("linux/amd64",), ("linux/arm64",)
LIVES: tuple[tuple[float, bool, dict[str, float | None]], ...] = (
    (0.80, True, {"ready_after": 2.0, "stop_takes": 3.0}),
    (0.86, True, {"ready_after": 30.0}),
    (0.90, False, {"ready_after": None}),
    (0.95, False, {"ready_after": 2.0, "crash_after": 3.0, "exit_code": 139}),
    (1.00, False, {"error_after": 2.0}),
)  # cumulative share; whether the trial passes; the lifecycle


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of a project: `by_number` in the order of versions, otherwise of push times."""

    app: str
    name: str
    takes: str  # tags with this beginning
    by_number: bool = True
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """One push of a tag. `versions` are the names of apps in which the rules create it."""

    tag: str
    apps: tuple[str, ...]
    platforms: tuple[str, ...] = GOOD


@dataclass(slots=True)
class Project:
    """A repository, the configuration for it, and what it pushes next."""

    repository: str
    apps: tuple[str, ...]
    config: str
    pushes: Iterator[Push]
    channels: tuple[Channel, ...] = ()
    private: bool = False
    keep: int | None = None
    room: int | None = None  # Edgegap's version limit; the rule makes room
    tried: bool = False
    parks_overwritten: bool = False
    lives: dict[str, bool] = field(default_factory=dict)  # by tag: whether its trial passes


Kind = Callable[[str, random.Random], Project]

SETTINGS = """[rule.settings]
req_cpu = 1024
req_memory = 2048
ports = [{ port = 7777, protocol = "UDP", name = "gameport" }]
"""


def projects(number: int, seed: int) -> list[Project]:
    """Return this number of projects; their kinds take turns."""
    made = []
    for index in range(number):
        kind = KINDS[index % len(KINDS)]
        name = f"{kind.__name__.strip('_')}-{index // len(KINDS)}"
        project = kind(name, random.Random(f"{seed} {name}"))
        project.private = index % 3 == 1
        made.append(project)
    return made


def configuration(studio: list[Project]) -> str:
    """Return the whole receiver.toml."""
    ending = '[catch_up]\nevery = "1h"\n\n[ledger]\nkeep = "12d"\n'
    return "\n".join([*(one.config for one in studio), ending])


def _rule(repository: str, app: str, *lines: str, name: str = "") -> str:
    named = f'name = "{name or repository}"\n'
    return f'[[rule]]\n{named}repository = "{repository}"\napp = "{app}"\n' + "\n".join(lines)


def _semver(chance: random.Random, lead: str = "") -> Iterator[str]:
    """Yield versions that grow, and sometimes a fix of an older line."""
    lines: dict[int, int] = {0: 0}
    while True:
        newest = max(lines)
        if chance.random() < 0.3:
            newest += 1
            lines[newest] = 0
            yield f"{lead}1.{newest}.0"
        else:
            line = newest if chance.random() < 0.85 else max(0, newest - chance.randint(1, 3))
            lines[line] += 1
            yield f"{lead}1.{line}.{lines[line]}"


def plain(name: str, chance: random.Random) -> Project:
    """Every tag is a version; sometimes an image cannot run, and some are pushed again."""
    repository = f"studio/{name}"

    def pushes() -> Iterator[Push]:
        for number in count(1):
            tag = f"build-{number}"
            if chance.random() < 0.05:
                yield Push(tag, (name,), ARM)
                if chance.random() < 0.5:
                    continue
            yield Push(tag, (name,))

    return Project(
        repository,
        (name,),
        _rule(repository, name, "keep = 20", SETTINGS),
        pushes(),
        keep=20,
    )


def _staged(
    name: str, chance: random.Random, more: str = "", needs: str = "", *, tried: bool = False
) -> Project:
    repository = f"studio/{name}"
    channels = [Channel(name, "staging", "1.")]
    if needs:
        more += f'\n[[channel]]\napp = "{name}"\nname = "prod"\nfrom = "staging"\nneeds = {needs}\n'
        channels.append(Channel(name, "prod", "1.", source="staging"))
    lines = ('tags = { semver = ">=1.0" }', 'channels = ["staging"]', "keep = 30", SETTINGS)

    def pushes() -> Iterator[Push]:
        versions = _semver(chance)
        for number in count(1):
            if chance.random() < 0.05:
                yield Push(f"feature-{number}", ())
            else:
                yield Push(next(versions), (name,))

    config = _rule(repository, name, *lines) + more
    return Project(repository, (name,), config, pushes(), tuple(channels), keep=30, tried=tried)


TRIAL = '\n[rule.trial]\nat = "45.5,-73.6"\nready_within = "1m"\nsteady_for = "10s"\n'


def staged(name: str, chance: random.Random) -> Project:
    """Version numbers move `staging`."""
    return _staged(name, chance)


def tried(name: str, chance: random.Random) -> Project:
    """Each version is tried, and `prod` takes from `staging` what has passed."""
    return _staged(name, chance, TRIAL, '["trial"]', tried=True)


def approved(name: str, chance: random.Random) -> Project:
    """As `tried`, and a person approves."""
    return _staged(name, chance, TRIAL, '["trial", "approval"]', tried=True)


def patterns(name: str, chance: random.Random) -> Project:
    """Globs and ranges, and nights that have a channel only."""
    repository = f"studio/{name}"
    releases = ('tags = ["v*", "!*-rc*"]', 'channels = ["1.x"]', "keep = 15", SETTINGS)
    nights = ('tags = ["nightly-*"]', "versions = false", 'channels = ["nightly"]', SETTINGS)
    config = "\n".join(
        [
            _rule(repository, name, *releases, name=f"{name} releases"),
            _rule(repository, name, *nights, name=f"{name} nights"),
            f'[[channel]]\napp = "{name}"\nname = "1.x"\ntags = {{ semver = "1.x" }}\n',
            f'[[channel]]\napp = "{name}"\nname = "nightly"\nfollow = "newest"\n',
        ]
    )

    def pushes() -> Iterator[Push]:
        versions, second = _semver(chance, "v"), count(1)
        for number in count(1):
            dice = chance.random()
            if dice < 0.4:
                yield Push(f"nightly-{number}", ())
            elif dice < 0.5:
                yield Push(f"v1.{number}.0-rc1", ())
            elif dice < 0.6:
                yield Push(f"v2.{next(second)}.0", (name,))
            else:
                yield Push(next(versions), (name,))

    channels = (Channel(name, "1.x", "v1."), Channel(name, "nightly", "nightly-", by_number=False))
    return Project(repository, (name,), config, pushes(), channels, keep=15)


def moving(name: str, chance: random.Random) -> Project:
    """Tags are overwritten, and move the channel `dev` each time."""
    repository = f"studio/{name}"
    lines = ('on_overwrite = "move"', 'channels = ["dev"]', "keep = 25", SETTINGS)
    follow = f'[[channel]]\napp = "{name}"\nname = "dev"\nfollow = "newest"\n'

    def pushes() -> Iterator[Push]:
        number = 0
        while True:
            if number < 5 or chance.random() < 0.8:
                number += 1
                yield Push(f"dev-{number}", (name,))
            else:
                yield Push(f"dev-{chance.randint(number - 4, number)}", (name,))

    channels = (Channel(name, "dev", "dev-", by_number=False),)
    config = _rule(repository, name, *lines) + "\n" + follow
    return Project(repository, (name,), config, pushes(), channels, keep=25)


def copied(name: str, chance: random.Random) -> Project:
    """Settings are copied from the newest version; nothing is deleted."""
    repository = f"studio/{name}"
    env = '[rule.settings]\nenvs = [{ key = "KEY", value_from = "GAME_KEY", is_hidden = true }]\n'
    numbers = count(1)

    def pushes() -> Iterator[Push]:
        while True:
            yield Push(f"r{next(numbers)}", (name,))

    return Project(repository, (name,), _rule(repository, name, env), pushes())


def twins(name: str, chance: random.Random) -> Project:
    """Two apps from one repository; the second takes releases only."""
    repository, second = f"studio/{name}", f"{name}-release"
    config = "\n".join(
        [
            _rule(repository, name, "keep = 10", SETTINGS, name=f"{name} all"),
            _rule(
                repository,
                second,
                'tags = ["*-release"]',
                SETTINGS,
                name=f"{name} releases",
            ),
        ]
    )

    def pushes() -> Iterator[Push]:
        for number in count(1):
            if chance.random() < 0.2:
                yield Push(f"{number}-release", (name, second))
            else:
                yield Push(f"{number}-debug", (name,))

    return Project(repository, (name, second), config, pushes(), keep=10)


def strict(name: str, chance: random.Random) -> Project:
    """Overwritten tags park; the next new tag makes them obsolete."""
    repository = f"studio/{name}"

    def pushes() -> Iterator[Push]:
        number = 0
        while True:
            if number < 3 or chance.random() < 0.9:
                number += 1
            yield Push(f"s{number}", (name,))

    config = _rule(repository, name, 'on_overwrite = "park"', "keep = 40", SETTINGS)
    return Project(repository, (name,), config, pushes(), keep=40, parks_overwritten=True)


def limited(name: str, chance: random.Random) -> Project:
    """Edgegap's version limit is reached again and again, and room is made."""
    repository = f"studio/{name}"
    numbers = count(1)

    def pushes() -> Iterator[Push]:
        while True:
            yield Push(f"l{next(numbers)}", (name,))

    config = _rule(repository, name, "make_room = true", SETTINGS)
    return Project(repository, (name,), config, pushes(), room=25)


KINDS: tuple[Kind, ...] = (
    *(plain, staged, tried, approved, patterns),
    *(moving, copied, twins, strict, limited),
)
