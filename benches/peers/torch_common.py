"""What the PyTorch peers share: parameters, points, Adam, the training step."""

import common
import torch


def setup(o):
    """Threads and precision."""
    torch.set_num_threads(o.threads)
    torch.set_default_dtype({"f32": torch.float32, "f64": torch.float64}[o.precision])
    torch.manual_seed(0)


def ball(n, d):
    """n points: uniform direction, radius uniform on (0, 1)."""
    x = torch.randn(n, d)
    return x * (torch.rand(n, 1) / x.norm(dim=1, keepdim=True))


def train(name, o, loss, layers):
    """Measures training steps. `loss(layers)` is a function without arguments that draws points and returns their loss."""
    layers = [tuple(torch.tensor(t, requires_grad=True) for t in layer) for layer in layers]
    optimiser = torch.optim.Adam([t for layer in layers for t in layer], lr=common.RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: max(0, 1 - k / common.HORIZON))

    objective = loss(layers)

    def step(_):
        optimiser.zero_grad()
        value = objective()
        value.backward()
        optimiser.step()
        schedule.step()
        return value.item()

    common.measure(name, o, step)
