"""Factors of a number by trial division: nothing but computing."""


def factors(n: int) -> str:
    found, rest, divisor = [], n, 2
    while divisor * divisor <= rest:
        if rest % divisor:
            divisor += 1
        else:
            found.append(divisor)
            rest //= divisor
    return f"{n} = " + " * ".join(map(str, [*found, rest]))
