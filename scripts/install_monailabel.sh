#!/usr/bin/env bash
# Make the environment of the MONAI Label server, with the versions of monailabel/requirements.txt.
#   bash scripts/install_monailabel.sh [FOLDER]     FOLDER: .venv-monailabel by default
# It holds MONAI Label alone (numpy 1.26); the bundle stays in its own .venv (numpy 2), made by scripts/install.sh.
# PYTHON chooses the interpreter (3.11), default python3.
set -euo pipefail
cd "$(dirname "$0")/.."

case " $* " in *" -h "* | *" --help "*) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
folder=${1:-.venv-monailabel}

[ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
  echo "error: MONAI Label's versions are pinned for Python 3.11; choose it with PYTHON=python3.11 and a new folder" >&2
  exit 1
}
pip=("$folder/bin/python" -m pip install --disable-pip-version-check)
# torch with its own dependencies, which differ by platform; the rest exactly as listed.
"${pip[@]}" --constraint monailabel/requirements.txt torch
"${pip[@]}" --no-deps --requirement monailabel/requirements.txt
"$folder/bin/python" -c 'import monailabel.app' > /dev/null
echo "installed; docs/serve.md says how to start the server"
