"""FastGAN at quarter width, to know how our GAN compares with the best known for few images: needs PyTorch (`pip install torch`).

PYTHONPATH=. python benchmarks/torch_fastgan.py IMAGES.npz --folder FOLDER --minutes 30      # fakes of 512 noise vectors every 10 CPU minutes

A CPU minute is as many updates as one core of the machine of results/published/recipes/updates_a_minute.csv does in it, so that a GPU, which
is used where there is one, has no more of them (`benchmarks.search --time` writes that table).

Written from the description of Liu, Zhu, Song and Elgammal 2021 (arXiv:2101.04775), for one grey channel and 128 pixels a side: skip-layer
excitation in both networks, a discriminator that reconstructs what it sees, hinge loss, spectral normalization, differentiable augmentation. The
reconstructions are compared pixel by pixel, because the original's perceptual distance needs a pretrained network of colour photographs.
`python -m benchmarks.search --judge FOLDER` says what the fakes are worth.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm
from tqdm import trange

import utils
from xraygan import disk

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZE, LATENT, BATCH, WIDTH = 128, 256, 8, 16  # the original's width is 64
NUM_FAKES = 512
OF_GENERATOR = {size: times * WIDTH for size, times in {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1}.items()}
OF_DISCRIMINATOR = {size: times * WIDTH for size, times in {8: 16, 16: 8, 32: 4, 64: 2, 128: 1}.items()}


def convolve(num_in, num_out, side, stride=1, padding=0):
    return spectral_norm(nn.Conv2d(num_in, num_out, side, stride, padding, bias=False))


class Grain(nn.Module):
    """Noise of a weight that is learned."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, maps):
        return maps + self.weight * torch.randn(len(maps), 1, *maps.shape[2:], device=DEVICE)


def widen(num_in, num_out, twice):
    """Double the picture; of two convolutions the second one follows with noise."""
    layers = [nn.Upsample(scale_factor=2), convolve(num_in, 2 * num_out, 3, 1, 1), *([Grain()] if twice else [])]
    layers += [nn.BatchNorm2d(2 * num_out), nn.GLU(dim=1)]
    if twice:
        layers += [convolve(num_out, 2 * num_out, 3, 1, 1), Grain(), nn.BatchNorm2d(2 * num_out), nn.GLU(dim=1)]
    return nn.Sequential(*layers)


class Excite(nn.Module):
    """Skip-layer excitation: each map of a larger picture is scaled by what a smaller one says."""

    def __init__(self, num_in, num_out):
        super().__init__()
        self.parts = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), convolve(num_in, num_out, 4), nn.SiLU(), convolve(num_out, num_out, 1), nn.Sigmoid()
        )

    def forward(self, says, scaled):
        return scaled * self.parts(says)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        of = OF_GENERATOR
        self.first = nn.Sequential(
            spectral_norm(nn.ConvTranspose2d(LATENT, 2 * of[4], 4, bias=False)), nn.BatchNorm2d(2 * of[4]), nn.GLU(dim=1)
        )
        self.to_8, self.to_16, self.to_32 = widen(of[4], of[8], True), widen(of[8], of[16], False), widen(of[16], of[32], True)
        self.to_64, self.to_128 = widen(of[32], of[64], False), widen(of[64], of[128], True)
        self.excite_64, self.excite_128 = Excite(of[4], of[64]), Excite(of[8], of[128])
        self.small, self.large = convolve(of[64], 1, 1), convolve(of[128], 1, 3, 1, 1)

    def forward(self, noise):
        at_4 = self.first(noise[:, :, None, None])
        at_8 = self.to_8(at_4)
        at_64 = self.excite_64(at_4, self.to_64(self.to_32(self.to_16(at_8))))
        at_128 = self.excite_128(at_8, self.to_128(at_64))
        return torch.tanh(self.large(at_128).float()), torch.tanh(self.small(at_64).float())


class Halve(nn.Module):
    """Two ways to half the size, averaged: two convolutions, and a pooled one."""

    def __init__(self, num_in, num_out):
        super().__init__()
        norm = lambda: [nn.BatchNorm2d(num_out), nn.LeakyReLU(0.2)]  # noqa: E731
        self.long = nn.Sequential(convolve(num_in, num_out, 4, 2, 1), *norm(), convolve(num_out, num_out, 3, 1, 1), *norm())
        self.short = nn.Sequential(nn.AvgPool2d(2), convolve(num_in, num_out, 1), *norm())

    def forward(self, maps):
        return (self.long(maps) + self.short(maps)) / 2


def decode(num_in):
    """From 8×8 places back to the image."""
    layers, widths = [nn.AdaptiveAvgPool2d(8)], (num_in, 64, 32, 16, 16)
    for one, other in zip(widths[:-1], widths[1:], strict=True):  # noqa: RUF007
        layers += [nn.Upsample(scale_factor=2), convolve(one, 2 * other, 3, 1, 1), nn.BatchNorm2d(2 * other), nn.GLU(dim=1)]
    return nn.Sequential(*layers, convolve(16, 1, 3, 1, 1), nn.Tanh())


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        of = OF_DISCRIMINATOR
        self.first = nn.Sequential(convolve(1, of[128], 3, 1, 1), nn.LeakyReLU(0.2))
        self.to_64, self.to_32, self.to_16, self.to_8 = (Halve(of[size], of[size // 2]) for size in (128, 64, 32, 16))
        self.excite_16, self.excite_8 = Excite(of[128], of[16]), Excite(of[64], of[8])
        self.judge = nn.Sequential(
            convolve(of[8], of[16], 1), nn.BatchNorm2d(of[16]), nn.LeakyReLU(0.2), convolve(of[16], 1, 4)
        )
        small = [convolve(1, of[64], 4, 2, 1), nn.LeakyReLU(0.2)]
        for one, other in ((64, 32), (32, 16)):
            small += [convolve(of[one], of[other], 4, 2, 1), nn.BatchNorm2d(of[other]), nn.LeakyReLU(0.2)]
        self.small, self.judge_small = nn.Sequential(*small), convolve(of[16], 1, 4)
        self.decode, self.decode_small, self.decode_part = decode(of[8]), decode(of[16]), decode(of[16])

    def forward(self, large, small, quarter=None):
        """Logits; with `quarter`, a row and column of 0 or 1, also the reconstructed image, from both scales, and that quarter of it."""
        at_128 = self.first(large)
        at_64 = self.to_64(at_128)
        at_16 = self.excite_16(at_128, self.to_16(self.to_32(at_64)))
        at_8, of_small = self.excite_8(at_64, self.to_8(at_16)), self.small(small)
        logits = torch.cat([self.judge(at_8).flatten(), self.judge_small(of_small).flatten()]).float()
        if quarter is None:
            return logits
        row, column = (8 * place for place in quarter)
        part = at_16[:, :, row : row + 8, column : column + 8]
        return logits, (self.decode(at_8), self.decode_small(of_small), self.decode_part(part))


def augment(pictures):
    """Brightness, contrast and a shift of an eighth, alike for both scales (Zhao et al. 2020)."""
    count = len(pictures[0])
    brightness = torch.rand(count, 1, 1, 1, device=DEVICE) - 0.5
    contrast = torch.rand(count, 1, 1, 1, device=DEVICE) + 0.5
    shifts = (torch.rand(2, count, device=DEVICE) * 2 - 1) / 4  # of the side's half
    changed = []
    for images in pictures:
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        bright = (images - mean) * contrast + mean + brightness
        place = torch.eye(2, 3, device=DEVICE).repeat(count, 1, 1)
        place[:, :, 2] = (shifts.T * images.shape[2] / 2).round() * 2 / images.shape[2]
        grid = functional.affine_grid(place, images.shape, align_corners=False)
        changed.append(functional.grid_sample(bright, grid, mode="nearest", align_corners=False))
    return changed


def halve_real(images):
    return functional.interpolate(images, SIZE // 2, mode="area")


class Training:
    def __init__(self, images, seed):
        torch.manual_seed(seed)
        self.images = torch.from_numpy(images).to(DEVICE).float()[:, None, :, :, 0] / 127.5 - 1
        self.rng = np.random.default_rng(seed)
        self.generator, self.discriminator, self.averaged = (of().to(DEVICE) for of in (Generator, Discriminator, Generator))
        self.averaged.load_state_dict(self.generator.state_dict())
        for network in (self.generator, self.discriminator):
            network.to(memory_format=torch.channels_last)
        rates = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": True}
        self.of_generator = torch.optim.Adam(self.generator.parameters(), **rates)
        self.of_discriminator = torch.optim.Adam(self.discriminator.parameters(), **rates)

    def update(self):
        real = self.images[self.rng.choice(len(self.images), BATCH, replace=len(self.images) < BATCH)]
        with torch.autocast(DEVICE, torch.bfloat16):
            fakes = self.generator(torch.randn(BATCH, LATENT, device=DEVICE))
            shown = augment([real, halve_real(real)])
            quarter = self.rng.integers(0, 2, 2)
            logits, (whole, from_small, part) = self.discriminator(*shown, quarter)
            fake_logits = self.discriminator(*augment([images.detach() for images in fakes]))
        row, column = (SIZE // 2 * place for place in quarter)
        target = shown[0][:, :, row : row + SIZE // 2, column : column + SIZE // 2]
        target = functional.interpolate(target, SIZE, mode="bilinear")
        loss = functional.relu(torch.rand_like(logits) * 0.2 + 0.8 - logits).mean()
        loss += functional.relu(torch.rand_like(fake_logits) * 0.2 + 0.8 + fake_logits).mean()
        loss += sum(
            functional.mse_loss(one.float(), of) for one, of in ((whole, shown[0]), (from_small, shown[0]), (part, target))
        )
        self.of_discriminator.zero_grad()
        loss.backward()
        self.of_discriminator.step()
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = -self.discriminator(*augment(fakes)).mean()
        self.of_generator.zero_grad()
        loss.backward()
        self.of_generator.step()
        with torch.no_grad():
            for average, live in zip(self.averaged.parameters(), self.generator.parameters(), strict=True):
                average.lerp_(live, 0.001)
            for average, live in zip(self.averaged.buffers(), self.generator.buffers(), strict=True):
                average.copy_(live)

    def draw(self):
        """`uint8 (NUM_FAKES, SIZE, SIZE, 1)`, batch norm by batches of 8 as the original does."""
        noise = torch.randn(NUM_FAKES, LATENT, generator=torch.Generator().manual_seed(1_000_000))
        with torch.no_grad(), torch.autocast(DEVICE, torch.bfloat16):
            images = torch.cat([self.averaged(part)[0] for part in noise.to(DEVICE).split(BATCH)])
        return ((images.permute(0, 2, 3, 1).cpu().numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


def time_update(training, num_updates=25, first=5):
    """The CPU seconds of an update, after some that prepare."""
    for update in range(first + num_updates):
        if update == first:
            start = time.process_time()
        training.update()
    return (time.process_time() - start) / num_updates


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help=".npz with `images`, uint8 (N, 128, 128, 1)")
    parser.add_argument("--folder", type=Path, help="where the fakes go")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time", action="store_true", help="print the seconds of an update, and nothing else")
    options = parser.parse_args()
    if not (options.time or options.folder):
        parser.error("--folder is missing: where the fakes go")
    torch.set_num_threads(1)
    with np.load(options.images, allow_pickle=False) as stored:
        training = Training(stored["images"], options.seed)
    if options.time:
        print(time_update(training))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    speeds = utils.read_table(disk.ROOT / "results" / "published" / "recipes" / "updates_a_minute.csv").set_index("candidate")
    a_part = round(options.every * speeds.loc["fastgan", "median"])
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU"
    for part in range(1, round(options.minutes / options.every) + 1):
        for _ in trange(a_part, desc=f"{part * options.every:g} minutes", unit="update"):
            training.update()
        facts = {"images": training.draw(), "updates": part * a_part, "device": device}
        np.savez(options.folder / f"minute_{part * options.every:g}.npz", **facts)


if __name__ == "__main__":
    main()
