"""A worker on the standard library alone: ten tasks from the master at PORT, squares back."""

import sys
from multiprocessing.managers import BaseManager


class QueueManager(BaseManager):
    pass


def main(port, authkey, count):
    QueueManager.register("get_task_queue")
    QueueManager.register("get_result_queue")
    manager = QueueManager(address=("127.0.0.1", port), authkey=authkey)
    manager.connect()
    tasks = manager.get_task_queue()
    results = manager.get_result_queue()
    for _ in range(count):
        number = tasks.get(timeout=10)
        results.put("%d squared is %d" % (number, number * number))  # noqa: UP031  # as of old
    print("done")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3]))
