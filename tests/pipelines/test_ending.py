from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, signal, sys, threading, time
from pipelines import ending

def engine():
    asked.wait()
    time.sleep(0.2)
    print("Traceback of an engine", file=sys.stderr)
    told.set()

asked, told = threading.Event(), threading.Event()
threading.Thread(target=engine, daemon=True).start()
try:
    with ending.interruptible():
        print("before", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGINT)
except ending.Interrupted as error:
    asked.set()
    told.wait()
    print(f"stopped: by {error}", file=sys.stderr)
    ending.leave(3)
"""


def test_after_ctrl_c_other_threads_have_no_word_any_more() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, timeout=60)
    assert (ended.returncode, ended.stderr) == (3, "before\nstopped: by Ctrl-C\n")
