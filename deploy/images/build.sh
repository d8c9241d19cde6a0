#!/bin/sh
# Makes the virtual environment of an image: members of the workspace as wheels, and what requirements.lock pins for
# them. Nothing is editable, nothing is compiled, there is no pip; uv refuses a package whose hash is not the locked one.
#
#   deploy/images/build.sh /opt/logue libs/common services/gateway
#
# Run from the root of the repository, with python and uv on the PATH. tests/deploy runs it, too.
set -eu

venv=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

install() {
    into=$1
    shift
    uv pip install --quiet --python "$into/bin/python" --constraint requirements.lock --only-binary :all: "$@"
}

uv venv --quiet --python "$(command -v python)" "$work/builder"
install "$work/builder" hatchling
for member in "$@"; do
    (cd "$member" && "$work/builder/bin/python" -m hatchling build --target wheel --directory "$work/wheels") >&2
done

uv venv --quiet --python "$(command -v python)" "$venv"
install "$venv" "$work"/wheels/*.whl
