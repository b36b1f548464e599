"""What a server says while it comes up: that it is ready, when it is and not before."""

import http.server
import queue
import socket
import threading

import pytest

from skipwise.serving.telling import say_when_ready

SEVERAL_LOOKS_S = 0.7


def test_ready_is_said_once_it_answers_well_and_not_before() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers, asked = {"status": 503}, threading.Event()

    class Coming(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers["status"])
            self.end_headers()
            asked.set()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    said: queue.Queue[str] = queue.Queue()
    say_when_ready("127.0.0.1", port, said.put)
    with pytest.raises(queue.Empty):  # nobody listens
        said.get(timeout=SEVERAL_LOOKS_S)
    with http.server.HTTPServer(("127.0.0.1", port), Coming) as server:
        answering = threading.Thread(target=server.serve_forever, daemon=True)
        answering.start()
        assert asked.wait(10)
        with pytest.raises(queue.Empty):  # it answers that it is not well
            said.get(timeout=SEVERAL_LOOKS_S)
        answers["status"] = 200
        line = said.get(timeout=10)
        assert line == f"ready: http://127.0.0.1:{port}/ (the feed), /lab, /docs. Ctrl-C ends it"
        with pytest.raises(queue.Empty):  # once
            said.get(timeout=SEVERAL_LOOKS_S)
        server.shutdown()
        answering.join(10)
