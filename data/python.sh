# Read by the scripts in the folders beside it, which set `here` to their own folder.
# run_python ARGUMENTS: the interpreter that PYTHON names, else that of .venv or of the system, with this checkout's package.

# Relative folders in the environment, and PYTHON, are meant from where the user is: nothing changes the folder.
run_python() {
    root=$here/../..
    for python in "$PYTHON" "$root/.venv/bin/python" python3 python; do
        if [ -n "$python" ] && command -v "$python" >/dev/null 2>&1; then
            PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" "$@"
        fi
    done
    echo "$(basename "$0"): no Python 3 found; set PYTHON to the interpreter" >&2
    exit 1
}
