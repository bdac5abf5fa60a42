"""A European call and its greeks for many options at once, by differentiating the price.

Black & Scholes 1973.  delta = ∂price/∂spot, vega = ∂price/∂volatility, theta = −∂price/∂time, rho = ∂price/∂rate,
gamma = ∂²price/∂spot².  One native function computes all of them, element by element.

Run: python examples/black_scholes_greeks.py
"""

from __future__ import annotations

import math

import numpy as np

import gradc as gc


def normal_cdf(x):
    return 0.5 * (1.0 + gc.special.erf(x / math.sqrt(2.0)))


def call_price(spot, strike, time, rate, volatility):
    """Price of a European call; every argument is a number or an array of options."""
    d1 = (np.log(spot / strike) + (rate + 0.5 * volatility**2) * time) / (volatility * np.sqrt(time))
    d2 = d1 - volatility * np.sqrt(time)
    return spot * normal_cdf(d1) - strike * np.exp(-rate * time) * normal_cdf(d2)


def total(spot, strike, time, rate, volatility):
    """The sum over options: its gradient holds every option's own derivatives."""
    return np.sum(call_price(spot, strike, time, rate, volatility))


def price_and_greeks(spot, strike, time, rate, volatility):
    """price, delta, theta, rho, vega, gamma, each with the shape of ``spot``."""
    arguments = (spot, strike, time, rate, volatility)

    def delta_of(s):
        return gc.grad(total)(s, *arguments[1:])

    delta, dtime, rho, vega = gc.grad(total, argnums=(0, 2, 3, 4))(*arguments)
    gamma = gc.jvp(delta_of, (spot,), (np.ones_like(spot),))[1]
    return call_price(*arguments), delta, -dtime, rho, vega, gamma


def options(n=10_000, seed=0):
    rng = np.random.default_rng(seed)
    ranges = ((80, 120), (80, 120), (0.1, 2.0), (0.0, 0.08), (0.1, 0.6))
    return tuple(rng.uniform(low, high, n) for low, high in ranges)


def main():
    compiled = gc.jit(price_and_greeks)
    market = options()
    results = compiled(*market)
    print("   spot strike   time   rate    vol |  price  delta   theta     rho    vega   gamma")
    for i in range(5):
        given = " ".join(f"{a[i]:6.2f}" for a in market)
        print(f" {given} | " + " ".join(f"{r[i]:7.3f}" for r in results))
    return market, results


if __name__ == "__main__":
    main()
