"""``flux hostlist --expand local``: prints the hosts of the job in which it runs."""

from __future__ import annotations

import json
import os
import socket


def main() -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ['FLUX_URI'][len('local://') :])
        request = {'tag': 1, 'topic': 'stand-in.hosts', 'payload': {'id': os.environ['FLUX_JOB_ID']}}
        connection.sendall(json.dumps(request).encode() + b'\n')
        answer = json.loads(connection.makefile('rb').readline())
    print(' '.join(answer['payload']['hosts']))


if __name__ == '__main__':
    main()
