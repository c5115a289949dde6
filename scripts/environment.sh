# Sourced by quickstart.sh and test.sh: an environment that holds what they need.
# Uses the active virtual or conda environment, or makes .venv beside the README.

PY=python

# Echoes a command as a user would type it, then runs it.
run() {
  printf '\n$ %s\n' "$*"
  "$@"
}

# BasicSR's source package cannot be built on Python 3.13: its setup.py reads a
# variable out of exec(), which that version no longer allows.
host_installs() {
  "$PY" -c 'import sys; sys.exit(sys.version_info >= (3, 13))'
}

# A bare container lacks libGL, which opencv-python wants and its headless twin not.
use_headless_cv2() {
  local complaint version
  complaint=$("$PY" -c 'import cv2' 2>&1) && return 0
  case $complaint in
    *"cannot open shared object file"*) ;;
    *) printf '%s\n' "$complaint" >&2; return 1 ;;
  esac
  echo "cv2 cannot be imported here (${complaint##*ImportError: }): using opencv-python-headless."
  version=$("$PY" -m pip show opencv-python 2>/dev/null | sed -n 's/^Version: //p')
  run "$PY" -m pip uninstall -q -y opencv-python
  # Both packages own the same folder: the headless one has to be laid anew.
  run "$PY" -m pip install -q --force-reinstall --no-deps \
    "opencv-python-headless${version:+==$version}"
  "$PY" -c 'import cv2'
}

# make_environment EXTRAS: installs this checkout with those extras.
make_environment() {
  local stamp
  if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    [ -x .venv/bin/python ] || run "${PYTHON:-python3}" -m venv .venv
    # shellcheck disable=SC1091
    . .venv/bin/activate
  fi
  PY=$(command -v python)
  "$PY" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "error: Expected Python 3.10 or newer, but got $("$PY" --version). Set PYTHON=/path/to/python3." >&2
    return 2
  }
  # What was installed is remembered, so that a second run starts at once.
  stamp=$("$PY" -c 'import sys; print(sys.prefix)')/.paragon-$(cat pyproject.toml scripts/environment.sh | cksum | cut -d' ' -f1)-$1
  if [ ! -e "$stamp" ]; then
    run "$PY" -m pip install -q torch torchvision
    if host_installs && ! "$PY" -m pip show -q basicsr 2>/dev/null; then
      # Without isolation its build uses the torch that is there, not a second download.
      run "$PY" -m pip install -q cython numpy setuptools wheel
      run "$PY" -m pip install -q --no-build-isolation --use-pep517 "basicsr>=1.4.2"
    fi
    run "$PY" -m pip install -q -e ".[$1]"
    use_headless_cv2
    touch "$stamp"
  fi
}
