"""Adds up the counts of all files: python total.py COUNTS.jsonl"""

import json
import sys
from collections import Counter

total: Counter[str] = Counter()
with open(sys.argv[1]) as file:
    for line in file:
        total.update(json.loads(line)["result"])
for name, count in sorted(total.items()):
    print(f"{name:>5} {count:>8}")
