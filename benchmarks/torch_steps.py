"""The same update of the same two networks in PyTorch, to know how near ours is to the fastest that is known.

Started by benchmarks/steps.py in a process of its own, if PyTorch is there (`pip install torch`; the project itself doesn't need it):
channels last, fused Adam, bfloat16 by autocast, upsampling and convolution as one transposed convolution, both losses from one pass forward.
Its arguments are the number of threads and of images an update. It reads lines "UPDATES" from standard input and answers each with the seconds and CPU seconds an update.
"""

import itertools
import sys
import time

import torch
from torch import nn
from torch.nn import functional

SIZE, LATENT = 128, 100
MAX_SHIFT, MAX_BRIGHTNESS, MAX_CONTRAST, CUT = 8, 0.2, 0.2, 21


class DoubleAndConvolve(nn.Module):
    """Nearest-neighbour upsampling and a 3×3 convolution as one transposed 4×4 convolution, see gan/networks.py."""

    def __init__(self, num_in, num_out, bias=False):
        super().__init__()
        self.kernel = nn.Parameter(0.02 * torch.randn(num_in, num_out, 3, 3))
        self.bias = nn.Parameter(torch.zeros(num_out)) if bias else None

    def forward(self, images):
        kernel = self.kernel
        for axis in (2, 3):
            a, b, c = kernel.split(1, axis)
            kernel = torch.cat([c, b + c, a + b, a], axis)
        return functional.conv_transpose2d(images, kernel, self.bias, stride=2, padding=1)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense, self.norm = nn.Linear(LATENT, 4 * 4 * 256, bias=False), nn.BatchNorm2d(256)
        parts, widths = [], (256, 256, 128, 64, 32)
        for num_in, num_out in itertools.pairwise(widths):
            parts += [DoubleAndConvolve(num_in, num_out), nn.BatchNorm2d(num_out), nn.ReLU()]
        self.parts, self.last = nn.Sequential(*parts), DoubleAndConvolve(32, 1, bias=True)

    def forward(self, noise):
        images = self.dense(noise).reshape(-1, 256, 4, 4).to(memory_format=torch.channels_last)
        return torch.tanh(self.last(self.parts(functional.relu(self.norm(images)))).float())


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        widths = (1, 32, 64, 128, 256)
        layers = [
            layer
            for num_in, num_out in itertools.pairwise(widths)
            for layer in (nn.Conv2d(num_in, num_out, 4, 2, 1), nn.LeakyReLU(0.2))
        ]
        self.parts, self.last = nn.Sequential(*layers), nn.Conv2d(256, 256, 4, 2, 1)
        self.of_spread, self.logit = nn.Parameter(torch.randn(256) / 16), nn.Linear(4096, 1)

    def forward(self, images):
        maps = self.parts(images)
        spread = (maps.float().var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        maps = maps + spread.to(maps.dtype) * self.of_spread[:, None, None].to(maps.dtype)
        return self.logit(functional.leaky_relu(self.last(maps), 0.2).flatten(1)).float()


def show(images):
    """The augmentation "cutout" of gan/augmentation.py."""
    uniform = lambda largest: (2 * torch.rand(len(images), 1, 1, 1) - 1) * largest  # noqa: E731
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * (1 + uniform(MAX_CONTRAST)) + mean + uniform(MAX_BRIGHTNESS)
    shifts = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2, len(images), 1))
    rows, columns = (pick(shift, images.dtype) for shift in shifts)
    images = (rows @ images[:, 0] @ columns.mT)[:, None]
    middles = torch.randint(0, SIZE, (2, len(images), 1))
    far = (torch.arange(SIZE) - middles).abs() >= CUT
    return images * (far[0][:, None, :, None] | far[1][:, None, None, :])


def pick(shift, dtype):
    places = (torch.arange(SIZE) + shift).abs()
    return functional.one_hot(torch.minimum(places, 2 * (SIZE - 1) - places), SIZE).to(dtype)


class Update:
    """Both networks, their optimizers and one update of both."""

    def __init__(self):
        self.generator, self.discriminator = Generator(), Discriminator()
        for network in (self.generator, self.discriminator):
            network.to(memory_format=torch.channels_last)
        self.averaged = [
            weight.detach().clone() for weight in self.generator.state_dict().values() if weight.is_floating_point()
        ]
        rates = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": True}
        self.of_generator = torch.optim.Adam(self.generator.parameters(), **rates)
        self.of_discriminator = torch.optim.Adam(self.discriminator.parameters(), **rates)

    def __call__(self, real):
        live = [weight for weight in self.generator.state_dict().values() if weight.is_floating_point()]
        torch._foreach_lerp_(self.averaged, live, 0.01)
        with torch.autocast("cpu", torch.bfloat16):
            fake = self.generator(torch.randn(len(real), LATENT))
            seen = fake.detach().requires_grad_()
            logits, fake_logits = self.discriminator(show(real)), self.discriminator(show(seen))
        d_loss = functional.softplus(-logits).mean() + functional.softplus(fake_logits).mean()
        g_loss = functional.softplus(-fake_logits).mean()
        weights = list(self.discriminator.parameters())
        gradients = torch.autograd.grad(d_loss, weights, retain_graph=True)
        (of_fake,) = torch.autograd.grad(g_loss, seen)
        self.of_generator.zero_grad()
        fake.backward(of_fake)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        self.of_discriminator.step()
        self.of_generator.step()


def main():
    torch.manual_seed(0)
    torch.set_num_threads(int(sys.argv[1]))
    update = Update()
    real = (2 * torch.rand(int(sys.argv[2]), 1, SIZE, SIZE) - 1).to(memory_format=torch.channels_last)
    for _ in range(5):
        update(real)
    print("ready", flush=True)
    for line in sys.stdin:
        count, start = int(line), (time.perf_counter(), time.process_time())
        for _ in range(count):
            update(real)
        print((time.perf_counter() - start[0]) / count, (time.process_time() - start[1]) / count, flush=True)


if __name__ == "__main__":
    main()
