"""Code in a process that has TensorFlow already, and where Keras, kapre and this package cannot be imported.

What is exported is checked in such a process. TensorFlow's import takes longer than the check: so one process imports
it when a test first asks, and each check runs in a copy of it. It ends with the test session.
"""

import json
import os
import socket
import socketserver
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from filelock import FileLock

_PROCESS = "KAT_TEST_SESSION"  # its number, for all processes that the session starts


def run(code: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run Python code, which finds the arguments in `sys.argv[1:]`; what `subprocess.run` returns, less its command."""
    session = os.environ.setdefault(_PROCESS, str(os.getpid()))
    address = Path(tempfile.gettempdir()) / f"kat_test_{session}"
    with FileLock(f"{address}.lock"):
        if not address.exists():
            subprocess.Popen([sys.executable, __file__, address, session], start_new_session=True)
        while not address.exists():
            time.sleep(0.05)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        with connection.makefile("rw") as stream:
            print(json.dumps([code, os.getcwd(), *map(str, arguments)]), file=stream, flush=True)
            returncode, stdout, stderr = json.loads(stream.readline() or '[-1, "", "it crashed"]')
    return subprocess.CompletedProcess([], returncode, stdout, stderr)


class _Handler(socketserver.StreamRequestHandler):
    """Runs in a process of its own."""

    def handle(self):
        code, folder, *arguments = json.loads(self.rfile.readline())
        os.chdir(folder)
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr.fileno(), 2)
            sys.argv = ["-c", *arguments]
            try:
                exec(code, {"__name__": "__main__"})
                returncode = 0
            except BaseException:
                traceback.print_exc()
                returncode = 1
            answer = [returncode]
            for stream, file in ((sys.stdout, stdout), (sys.stderr, stderr)):
                stream.flush()
                file.seek(0)
                answer.append(file.read())
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    max_children = 8

    def service_actions(self):
        """Called twice a second."""
        super().service_actions()
        try:
            os.kill(int(sys.argv[2]), 0)
        except ProcessLookupError:
            os.unlink(self.server_address)
            os.unlink(f"{self.server_address}.lock")
            os._exit(0)


if __name__ == "__main__":
    sys.modules.update({"keras": None, "kapre": None, "keras_audio_transfer": None})
    import tensorflow  # noqa: F401 - the copies find it imported

    beginning = f"{sys.argv[1]}.new"
    server = _Server(beginning, _Handler)
    os.rename(beginning, sys.argv[1])  # now it can be connected to
    server.server_address = sys.argv[1]
    server.serve_forever()
