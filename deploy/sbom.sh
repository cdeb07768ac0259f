#!/usr/bin/env bash
# The receiver's bill of materials, from an environment with the packages of the lock file only:
#   deploy/artefacts/sbom.cdx.json   the bill of materials, CycloneDX 1.6
#   deploy/artefacts/licences.json   name, version and licence of each dependency
# Needs the environment of the README's test command.  deploy/sbom.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-deploy/artefacts}
tools=.venv/bin
if [ ! -x $tools/cyclonedx-py ]; then
  echo "run the README's test command first: it creates .venv" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/env"
$tools/pip --python "$work/env/bin/python" install -q --no-compile --require-hashes \
  -r deploy/requirements.txt

mkdir -p "$out"
version=$(.venv/bin/python -c 'from receiver.version import VERSION; print(VERSION)')
sed "s/^dynamic = .*/version = \"$version\"/" pyproject.toml > "$work/pyproject.toml"
$tools/cyclonedx-py environment --pyproject "$work/pyproject.toml" --mc-type application \
  --spec-version 1.6 --output-reproducible --validate \
  --output-file "$out/sbom.cdx.json" "$work/env/bin/python"
$tools/pip-licenses --python "$work/env/bin/python" --from=mixed --with-urls --format=json \
  --output-file "$out/licences.json"
echo "$out/sbom.cdx.json and $out/licences.json are written."
