"""A server with OpenAI's API that a test kills: the level of a picture is a function of its bytes alone.

usage: scoring_server.py PORT
"""

import hashlib
import json
import math
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LEVELS = 7


def rating(picture: str) -> dict:
    level = str(hashlib.sha256(picture.encode()).digest()[0] % LEVELS + 1)
    top = [{"token": token, "bytes": list(token.encode()), "logprob": math.log(share)}
           for token, share in [(level, 0.8), ("The", 0.1)]]
    first = {**top[0], "top_logprobs": top}
    choice = {"index": 0, "message": {"role": "assistant", "content": level},
              "logprobs": {"content": [first]}, "finish_reason": "length"}
    return {"object": "chat.completion", "model": "digest", "choices": [choice]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        picture = request["messages"][-1]["content"][0]["image_url"]["url"]
        answer = json.dumps(rating(picture)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
