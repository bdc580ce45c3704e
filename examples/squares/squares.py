"""The job of the standard library's recipe: a number goes out, a line of text comes back."""


def square(n: int) -> str:
    return f"{n} * {n} = {n * n}"
