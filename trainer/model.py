"""CLIP: image towers (modified ResNet, ViT, a small convolutional one), text towers (transformer, bag of words) and the
named models. Names of modules and parameters are OpenAI's, so their and open_clip's state dicts load as they are."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.tokenizer import VOCABULARY

MAX_LOG_SCALE = math.log(100)  # CLIP section 2.5: a larger logit scale made training unstable
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of WIT's pixels, as OpenAI's models expect them
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ConvConfig:
    """The small convolutional tower of the demonstration."""

    widths: tuple[int, ...]  # one stride-2 stage each


@dataclass(frozen=True)
class ResNetConfig:
    """CLIP's modified ResNet: blocks of each stage, and the width of the first."""

    layers: tuple[int, int, int, int]
    width: int


@dataclass(frozen=True)
class ViTConfig:
    """A vision transformer: side of a patch in pixels, width, layers."""

    patch: int
    width: int
    layers: int


@dataclass(frozen=True)
class TextConfig:
    """A text tower: a transformer, or without layers a bag of words."""

    width: int
    layers: int = 12
    heads: int = 8
    context_length: int = 77
    pool: Literal["end", "mean"] = "end"  # mean without layers = bag of words, the CBOW tower of CLIP figure 3


@dataclass(frozen=True)
class ModelConfig:
    """A CLIP: both towers, and the dimension of the embedding that they share."""

    embed_dim: int
    image_size: int  # pixels, square
    image: ConvConfig | ResNetConfig | ViTConfig
    text: TextConfig
    quick_gelu: bool = True  # OpenAI's weights need it; open_clip's own use the exact GELU


class QuickGELU(nn.Module):
    """OpenAI's approximation of GELU: x * sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A pre-norm transformer block, `[batch, length, width]`."""

    def __init__(self, width: int, heads: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        layers = [
            ("c_fc", nn.Linear(width, 4 * width)),
            ("gelu", activation()),
            ("c_proj", nn.Linear(4 * width, width)),
        ]
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`[batch, length, width]` -> the same shape; `mask` is added to the attention logits."""
        normal = self.ln_1(x)
        x = x + self.attn(normal, normal, normal, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Blocks one after the other, `[batch, length, width]`, with GPT-2's initialisation."""

    def __init__(self, width: int, layers: int, heads: int, activation: type[nn.Module]) -> None:
        super().__init__()
        blocks = [Block(width, heads, activation) for _ in range(layers)]
        self.resblocks = nn.ModuleList(blocks)
        for block in blocks:  # GPT-2's: the residual branches shrink with depth
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=(2 * layers * width) ** -0.5)
            nn.init.normal_(block.mlp[0].weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp[2].weight, std=(2 * layers * width) ** -0.5)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class VisionTransformer(nn.Module):
    """CLIP's ViT: `[batch, 3, size, size]` -> `[batch, output]`, read at the class token."""

    def __init__(self, config: ViTConfig, image_size: int, output: int, activation: type[nn.Module]) -> None:
        super().__init__()
        width, scale = config.width, config.width**-0.5
        self.conv1 = nn.Conv2d(3, width, config.patch, stride=config.patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn((image_size // config.patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, config.layers, width // 64, activation)  # heads of 64, as all of CLIP's
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, output))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        x = torch.cat([first, patches], dim=1) + self.positional_embedding.to(patches.dtype)
        x = self.transformer(self.ln_pre(x))
        return self.ln_post(x[:, 0]) @ self.proj


class Bottleneck(nn.Module):
    """A ResNet block, `[batch, channels, height, width]`; its stride is an average pool after the 3x3 convolution
    (anti-aliased)."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.bn3.weight)  # the block starts as the identity
        self.downsample: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            shortcut = [("-1", nn.AvgPool2d(stride)), ("0", nn.Conv2d(inputs, outputs, 1, bias=False))]
            self.downsample = nn.Sequential(OrderedDict([*shortcut, ("1", nn.BatchNorm2d(outputs))]))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.avgpool(F.relu(self.bn2(self.conv2(y))))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class AttentionPool(nn.Module):
    """One attention layer whose only query is the mean of all places."""

    def __init__(self, places: int, width: int, heads: int, output: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(places + 1, width) * width**-0.5)
        self.k_proj, self.q_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, output)
        self.heads = heads
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(layer.weight, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, width, rows, columns]` -> `[batch, output]`."""
        x = x.flatten(2).transpose(1, 2)  # [batch, places, width]
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding.to(x.dtype)
        query, key, value = self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x)
        split = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)]
        pooled: Tensor = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        return self.c_proj(pooled[:, 0])


class ModifiedResNet(nn.Module):
    """CLIP's ResNet-D with a stem of three convolutions: `[batch, 3, size, size]` -> `[batch, output]`."""

    def __init__(self, config: ResNetConfig, image_size: int, output: int) -> None:
        super().__init__()
        width = config.width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.layer1 = self.stage(width, width, config.layers[0], stride=1)
        self.layer2 = self.stage(4 * width, 2 * width, config.layers[1], stride=2)
        self.layer3 = self.stage(8 * width, 4 * width, config.layers[2], stride=2)
        self.layer4 = self.stage(16 * width, 8 * width, config.layers[3], stride=2)
        # heads of 64, as all of CLIP's: 32 x width / 64
        self.attnpool = AttentionPool((image_size // 32) ** 2, 32 * width, width // 2, output)

    @staticmethod
    def stage(inputs: int, planes: int, blocks: int, *, stride: int) -> nn.Sequential:
        """Blocks that halve the picture at `stride` 2, and have 4 x `planes` channels."""
        rest = [Bottleneck(4 * planes, planes, 1) for _ in range(blocks - 1)]
        return nn.Sequential(Bottleneck(inputs, planes, stride), *rest)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        return self.attnpool(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


class ConvTower(nn.Module):
    """A few convolutions, each halving the picture, then the mean and the maximum over all places."""

    def __init__(self, config: ConvConfig, output: int) -> None:
        super().__init__()
        pairs = zip((3, *config.widths), config.widths, strict=False)
        self.stages = nn.Sequential(*(self.stage(inputs, outputs) for inputs, outputs in pairs))
        self.proj = nn.Linear(2 * config.widths[-1], output, bias=False)

    @staticmethod
    def stage(inputs: int, outputs: int) -> nn.Sequential:
        """A convolution that halves the picture, with batch norm and ReLU."""
        # Strided: on a CPU a sixth of the time of 3x3 and max-pool, whose memory traffic dominates so small a tower.
        conv = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

    def forward(self, images: Tensor) -> Tensor:
        x = self.stages(images.contiguous(memory_format=torch.channels_last))
        return self.proj(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))


class CLIP(nn.Module):
    """Both towers and the learned temperature. The text tower lies at the root, as in OpenAI's checkpoints."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        text, activation = config.text, QuickGELU if config.quick_gelu else nn.GELU
        self.config = config
        self.visual = image_tower(config)
        self.token_embedding = nn.Embedding(VOCABULARY, text.width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        if text.layers:
            self.positional_embedding = nn.Parameter(0.01 * torch.randn(text.context_length, text.width))
            self.transformer = Transformer(text.width, text.layers, text.heads, activation)
            mask = torch.full((text.context_length, text.context_length), -math.inf).triu_(1)
            self.register_buffer("attn_mask", mask, persistent=False)
        self.ln_final = nn.LayerNorm(text.width)
        self.text_projection = nn.Parameter(torch.randn(text.width, config.embed_dim) * text.width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, images: Tensor) -> Tensor:
        """`[batch, embed_dim]`, of length 1, from normalised `[batch, 3, size, size]`."""
        return F.normalize(self.visual(images).float(), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """`[batch, embed_dim]`, of length 1, from `[batch, context_length]`."""
        x = self.token_embedding(tokens)
        if self.config.text.layers:
            x = self.transformer(x + self.positional_embedding.to(x.dtype), self.attn_mask)
        return F.normalize((self.pool(self.ln_final, x, tokens) @ self.text_projection).float(), dim=-1)

    def pool(self, norm: nn.LayerNorm, x: Tensor, tokens: Tensor) -> Tensor:
        """`[batch, width]` of a text `[batch, length, width]`: normed at the end token, or the normed mean of its words."""
        end = tokens.argmax(dim=-1)  # the end token has the largest id
        if self.config.text.pool == "end":
            return norm(x)[torch.arange(len(x), device=x.device), end]
        places = torch.arange(tokens.shape[1], device=x.device)
        words = ((places > 0) & (places <= end[:, None])).unsqueeze(-1)  # the end token stands in for an empty text
        return norm((x * words).sum(dim=1) / words.sum(dim=1))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Image features, text features and the logit scale (not its logarithm)."""
        return self.encode_image(images), self.encode_text(tokens), self.logit_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keeps the logit scale at 100 or below, after each step (the value, not the gradient, as OpenAI's)."""
        self.logit_scale.clamp_(0, MAX_LOG_SCALE)


def image_tower(config: ModelConfig) -> nn.Module:
    """The image tower of a model: `[batch, 3, size, size]` -> `[batch, embed_dim]`."""
    match config.image:
        case ViTConfig() as image:
            activation = QuickGELU if config.quick_gelu else nn.GELU
            return VisionTransformer(image, config.image_size, config.embed_dim, activation)
        case ResNetConfig() as image:
            return ModifiedResNet(image, config.image_size, config.embed_dim)
        case ConvConfig() as image:
            return ConvTower(image, config.embed_dim)


def resnet(embed_dim: int, image_size: int, layers: tuple[int, int, int, int], width: int, text: int) -> ModelConfig:
    """A CLIP with a ResNet; `text` is the width of the text tower, whose heads are of 64."""
    return ModelConfig(embed_dim, image_size, ResNetConfig(layers, width), TextConfig(text, heads=text // 64))


def vit(embed_dim: int, image_size: int, patch: int, width: int, layers: int, text: int) -> ModelConfig:
    """A CLIP with a ViT; `text` is the width of the text tower, whose heads are of 64."""
    return ModelConfig(embed_dim, image_size, ViTConfig(patch, width, layers), TextConfig(text, heads=text // 64))


BAG_OF_WORDS = TextConfig(128, layers=0, context_length=32, pool="mean")
SMALL_TEXT = TextConfig(128, layers=2, heads=2, context_length=32)

MODELS = {
    # seconds on a laptop: the demonstration
    "demo": ModelConfig(128, 32, ConvConfig((32, 64, 128, 256)), BAG_OF_WORDS),
    "demo-vit": ModelConfig(128, 32, ViTConfig(4, 128, 4), SMALL_TEXT),
    # CLIP tables 19 and 20
    "RN50": resnet(1024, 224, (3, 4, 6, 3), 64, 512),
    "RN101": resnet(512, 224, (3, 4, 23, 3), 64, 512),
    "RN50x4": resnet(640, 288, (4, 6, 10, 6), 80, 640),
    "RN50x16": resnet(768, 384, (6, 8, 18, 8), 96, 768),
    "RN50x64": resnet(1024, 448, (3, 15, 36, 10), 128, 1024),
    "ViT-B/32": vit(512, 224, 32, 768, 12, 512),
    "ViT-B/16": vit(512, 224, 16, 768, 12, 512),
    "ViT-L/14": vit(768, 224, 14, 1024, 24, 768),
    "ViT-L/14@336px": vit(768, 336, 14, 1024, 24, 768),
}
