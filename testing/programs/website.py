"""A web application with Flask, on waitress or on Flask's own server with threads; gunicorn imports it."""

import sys

from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def root():
    return "the root"


@app.get("/hello/<name>")
def hello(name):
    return {"hello": name}


@app.post("/echo")
def echo():
    return request.get_data()


if __name__ == "__main__":
    port = int(sys.argv[2])
    if sys.argv[1] == "waitress":
        import waitress

        waitress.serve(app, host="127.0.0.1", port=port, threads=4)
    else:
        app.run("127.0.0.1", port, threaded=True)
