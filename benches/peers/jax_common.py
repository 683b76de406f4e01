"""What the JAX peers share: network, exact Laplacian (folx), points, Adam, the training step."""

import common
import jax
import jax.numpy as jnp


def setup(o):
    """Precision."""
    jax.config.update("jax_enable_x64", o.precision == "f64")


def network(layers, x):
    """N(x) for one point x [d]."""
    for w, b in layers[:-1]:
        x = jnp.tanh(x @ w + b)
    return (x @ layers[-1][0] + layers[-1][1])[0]


def field(layers, x):
    """u(x) = (1 - |x|^2) N(x) for one point."""
    return (1 - x @ x) * network(layers, x)


def laplacian(f, x):
    """f and its exact Laplacian at one point, by folx's forward Laplacian."""
    import folx

    out = folx.forward_laplacian(f, disable_jit=True)(x)
    return out.x, out.laplacian


def ball(key, n, d, dtype):
    """n points: uniform direction, radius uniform on (0, 1)."""
    direction, radius = jax.random.split(key)
    x = jax.random.normal(direction, (n, d), dtype)
    r = jax.random.uniform(radius, (n, 1), dtype)
    return x * (r / jnp.linalg.norm(x, axis=1, keepdims=True))


def adam(layers, gradient, moments, k):
    """One step; the rate goes to zero linearly. Returns layers and both moments."""
    rate = common.RATE * jnp.maximum(0, 1 - k / common.HORIZON)
    c1, c2 = 1 - 0.9 ** (k + 1.0), 1 - 0.999 ** (k + 1.0)
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], gradient)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], gradient)
    new = jax.tree.map(lambda w, m, v: w - (rate / c1 * m / (jnp.sqrt(v / c2) + 1e-8)).astype(w.dtype), layers, m, v)
    return new, (m, v)


def device_memory():
    """What reads the most bytes that lay on a GPU, in MB; none on a CPU."""
    stats = jax.local_devices()[0].memory_stats()
    return stats and (lambda: jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 1e6)


def train(name, o, loss_and_gradient, layers):
    """Measures steps of `loss_and_gradient(layers, key) -> (loss, gradient)` followed by Adam: one compiled function
    that reuses the memory of its arguments."""

    def one(state, k):
        loss, gradient = loss_and_gradient(state[0], jax.random.fold_in(jax.random.key(0), k))
        return adam(state[0], gradient, state[1], k), loss

    @jax.jit(donate_argnums=(0, 1))
    def update(layers, moments, k):
        if o.scan == 1:
            state, loss = one((layers, moments), k)
            return *state, loss
        state, losses = jax.lax.scan(one, (layers, moments), k * o.scan + jnp.arange(o.scan))
        return *state, losses[-1]

    layers = jax.tree.map(jnp.asarray, layers)
    state = [layers, tuple(jax.tree.map(jnp.zeros_like, layers) for _ in range(2))]

    def step(k):
        *state[:], loss = update(*state, k)
        return jax.block_until_ready((loss, state))[0]

    common.measure(name, o, step, o.scan, device_memory())


def source(x, c, functions=jnp):
    """g = lap u + sin u of the exact solution at points x [n, d]."""
    u, lap = common.exact_and_laplacian(functions, x, c)
    return lap + jnp.sin(u)


def check(o, estimate, source, tolerance=1e-4):
    """The source against folx on the exact solution; the estimate with all coordinates drawn against folx."""
    layers, c = common.parameters(o.d, o.precision), common.coefficients(o.d, o.precision)
    x = ball(jax.random.key(1), 7, o.d, layers[0][0].dtype)
    u, lap = jax.vmap(lambda x: laplacian(lambda x: common.exact(jnp, x, c), x))(x)
    common.compare("source", source(x, c), lap + jnp.sin(u), tolerance)
    u, lap = jax.vmap(lambda x: laplacian(lambda x: field(layers, x), x))(x)
    found = estimate(jax.tree.map(jnp.asarray, layers), x, jnp.arange(o.d))
    common.compare("field", found[0], u, tolerance)
    common.compare("Laplacian", found[1], lap, tolerance)
