"""A master on the standard library alone: puts tasks, prints its port and the results.

Its arguments are the key, how many, and "own" where each second task is of a class of its own.
"""

import queue
import sys
from multiprocessing.managers import BaseManager

task_queue = queue.Queue()
result_queue = queue.Queue()


class QueueManager(BaseManager):
    pass


def get_task_queue():
    return task_queue


def get_result_queue():
    return result_queue


class Job:
    def __init__(self, number):
        self.number = number


def main(authkey, count, own):
    QueueManager.register("get_task_queue", callable=get_task_queue)
    QueueManager.register("get_result_queue", callable=get_result_queue)
    manager = QueueManager(address=("127.0.0.1", 0), authkey=authkey)
    manager.start()
    print("port", manager.address[1], flush=True)
    tasks = manager.get_task_queue()
    results = manager.get_result_queue()
    for number in range(count):
        tasks.put(Job(number) if own and number % 2 else number)
    for _ in range(count):
        print("result", results.get(timeout=30), flush=True)
    manager.shutdown()


if __name__ == "__main__":
    main(sys.argv[1].encode(), int(sys.argv[2]), "own" in sys.argv[3:])
