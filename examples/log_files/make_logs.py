"""Makes files of access log lines: python make_logs.py FOLDER --files N --lines M --seed S"""

import argparse
import os
import random
import time

START = 1_700_000_000  # when the first request came, in seconds since 1970
PAGES = ["/", "/search?q=shoes", "/cart", "/items/17", "/items/4711", "/static/site.css"]
METHODS = {"GET": 90, "POST": 9, "DELETE": 1}
STATUS = {200: 88, 304: 6, 404: 4, 500: 2}


def log_line(rng: random.Random, second: int) -> str:
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(START + second))
    [method] = rng.choices([*METHODS], [*METHODS.values()])
    [status] = rng.choices([*STATUS], [*STATUS.values()])
    host, page, size = rng.randrange(256), rng.choice(PAGES), rng.randrange(200, 90_000)
    return f'192.0.2.{host} - - [{when}] "{method} {page} HTTP/1.1" {status} {size}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description="Make files of access log lines.")
    parser.add_argument("folder")
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--lines", type=int, default=10_000, help="in each file")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same lines")
    given = parser.parse_args()
    os.makedirs(given.folder, exist_ok=True)
    rng = random.Random(given.seed)
    size = 0
    for number in range(1, given.files + 1):
        with open(os.path.join(given.folder, f"access-{number:03}.log"), "w", newline="\n") as file:
            size += sum(file.write(log_line(rng, second)) for second in range(given.lines))
    print(f"{given.files} files, {given.files * given.lines} lines, {size} bytes")


if __name__ == "__main__":
    main()
