"""The words of the recipe language, as frozen pydantic models.

Every field's docstring is the text that the JSON Schema, the editor and the docs show. A key that nothing consumes does
not exist here: what a later version adds (`streams`, …) joins together with what it does.
Checks that look at several keys at once live in `checks`, where they can name the exact place in the file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from smoe_cli.recipe.backbones import Backbone
from smoe_cli.recipe.measures import Evaluation
from smoe_cli.recipe.nodes import MODALITIES, Fraction, Modality, Name, Node, Positive, Rate, Size

# ------------------------------------------------------------------------------------------------------------- model


class BytesTokenizer(Node):
    """UTF-8 bytes and a few special tokens: encodes any text, needs no download."""

    kind: Literal["bytes"]
    """`bytes`"""


class PretrainedTokenizer(Node):
    """A tokenizer in Hugging Face layout. Missing special tokens are added."""

    kind: Literal["pretrained"]
    """`pretrained`"""
    path: str
    """Local folder or hub id."""
    image_tokens: tuple[str, str] | None = None
    """Tokens of its vocabulary that open and close an image; default: the family's own, or `<image>` and `</image>`, which are
    added when they are missing."""


Tokenizer = Annotated[BytesTokenizer | PretrainedTokenizer, Field(discriminator="kind")]


class FreshVision(Node):
    """A vision encoder with fresh weights, which turns an image to understand into `vit` tokens, and its projector."""

    family: Literal["vit", "siglip_vision_model"]
    """Vision model in transformers (`model_type`)."""
    image_size: Size
    """Images are resized to [height, width] (with padding, keeping proportions)."""
    patch_size: Size
    """One `vit` token per patch of [height, width] pixels. `siglip_vision_model` needs squares."""
    hidden_size: Positive
    """Width of the vision encoder."""
    intermediate_size: Positive
    """Inner width of its feed-forward layers."""
    num_hidden_layers: Positive
    """Encoder layers."""
    num_attention_heads: Positive
    """Attention heads."""
    projector: Literal["linear", "mlp"] = "mlp"
    """Map from the encoder's width to the backbone's: one linear layer, or two with a GELU between (LLaVA 1.5)."""


class PretrainedVision(Node):
    """The vision encoder of a checkpoint in Hugging Face layout, and a fresh projector."""

    family: Literal["pretrained"]
    """`pretrained`"""
    path: str
    """Folder or hub id of a transformers vision model (ViT, SigLIP, CLIP, DINOv2, …) or of a model that contains one."""
    revision: str | None = None
    """Hub ids: commit, tag or branch."""
    projector: Literal["linear", "mlp"] = "mlp"
    """Map from the encoder's width to the backbone's: one linear layer, or two with a GELU between (LLaVA 1.5)."""


class OwnVision(Node):
    """The vision encoder of a multimodal backbone itself, with its projector, positions and deep-stacked features."""

    family: Literal["own"]
    """`own`"""
    image_size: Size
    """Images are resized to [height, width] (with padding, keeping proportions)."""


Vision = Annotated[FreshVision | PretrainedVision | OwnVision, Field(discriminator="family")]


class PixelCodec(Node):
    """Latents are the pixels themselves, in [-1, 1], three channels: no autoencoder."""

    kind: Literal["pixels"]
    """`pixels`"""


class Latents(Node):
    """The latent interface: what turns an image to generate into `vae` tokens and back. Only this is new to the backbone."""

    codec: PixelCodec
    """From image to latent and back."""
    image_size: Size
    """Generated images, [height, width]."""
    patch_size: Size
    """One `vae` token per patch of [height, width] latent pixels."""
    shift: Annotated[float, Field(gt=0)] = 1.0
    """Training timesteps: t = sigmoid(N(0,1)), then t ← s·t / (1 + (s−1)·t). 1 leaves t as drawn; larger is noisier."""
    prediction: Literal["velocity", "image"] = "velocity"
    """What the output layer predicts: the velocity itself, or the clean image, from which the velocity follows. `image` is for
    tokens with more values than the backbone is wide: noise does not fit through it (arXiv 2511.13720). Same loss."""


class Mount(Node):
    """A group whose experts, with their router rows, are copied from another group's. This adds parameters to the backbone."""

    group: Name
    """An earlier group. It is copied as often as this group's `experts` asks for: once, twice, …"""
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Standard deviation of noise on the copies, as a share of each tensor's own, so that twins can part."""


class Group(Node):
    """A set of routed experts with a router of its own, serving some modalities."""

    name: Name
    """Used in role names: `experts.<name>`, `router.<name>`."""
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)]
    """Modalities whose tokens this group serves. Every modality belongs to exactly one group."""
    experts: Positive
    """Number of experts of every layer that belong to this group."""
    select: (
        Literal["first", "last", "random", "most-activated", "least-activated", "rest"]
        | tuple[int, ...]
        | tuple[tuple[int, ...], ...]
    ) = "rest"
    """Which experts of the backbone, among those no earlier group took: the first, the last or random ones, those that the
    profile saw most or least used, the rest, a list of indices for all layers, or one list for each layer."""
    mount: Mount | None = None
    """Copy the experts from another group instead of taking them from the backbone."""


class Shared(Node):
    """Experts that every token passes, on top of the routed ones."""

    count: Positive | None = None
    """From scratch: number of shared experts, 1 unless given; they are one MLP of count × intermediate_size."""
    intermediate_size: Positive | None = None
    """From scratch, and required there: inner width of one shared expert."""
    promote: Positive | None = None
    """Families without shared experts: this many experts of every layer, the most activated ones of the profile, become always
    on. A token is then sent to as many fewer routed ones, so that its cost and the scale of the output stay as they were."""
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)] = MODALITIES
    """Modalities whose tokens receive the shared experts' output; for others it is exactly zero."""


class Model(Node):
    """The model: a transformers decoder whose routed experts are split by modality."""

    backbone: Backbone
    """The decoder."""
    tokenizer: Tokenizer | None = None
    """Text to token ids; default: the checkpoint's own, or bytes for a backbone from scratch."""
    profile: str | None = None
    """File that `smoe profile` wrote: how often each expert is used. For `most-activated`, `least-activated` and `promote`."""
    groups: Annotated[tuple[Group, ...], Field(min_length=1)]
    """Expert groups; one group holding every expert for every modality is the standard MoE."""
    shared: Shared | Literal["none"] | None = None
    """Shared experts; default: the checkpoint's own. `none`: there are none, and a checkpoint's own are left out."""
    vision: Vision | None = None
    """Vision encoder; required by sources with task `mmu`."""
    latents: Latents | None = None
    """Latent interface; required by sources with task `t2i`."""
    image_positions: Literal["shared", "sequential", "mrope"] | None = None
    """Rotary positions inside an image: all its tokens share one (BAGEL), or each has its own, or each has a temporal, a
    vertical and a horizontal one (`mrope`, families that know it only). Default: `mrope` for such families, else `shared`."""
    image_attention: Literal["bidirectional", "causal"] | None = None
    """Whether the `vit` tokens of an image see each other both ways, or only earlier ones. Default: `causal` with the `own`
    vision encoder, as such models were trained, otherwise `bidirectional`. A drawn image always sees all of itself."""


# -------------------------------------------------------------------------------------------------------------- data


class SourceBase(Node):
    """What all data sources have in common."""

    on_bad_row: Literal["skip", "error"] = "error"
    """A broken row (missing column, unreadable image, empty text) is skipped and counted, or stops the run."""
    caption_dropout: Fraction = 0.1
    """Task `t2i`: share of samples trained without their caption, which guidance needs when sampling."""
    question: str | None = None
    """Task `mmu`: asked of every image; default: the dataset's own question column."""


class RenderedText(SourceBase):
    """Words or digit strings drawn with Pillow; deterministic by seed and index; train and held-out strings are disjoint."""

    kind: Literal["rendered-text"]
    """`rendered-text`"""
    task: Literal["mmu", "t2i"]
    """`mmu`: read the image; `t2i`: draw the caption."""
    content: Literal["digits", "words"] = "digits"
    """Digit strings, or English words."""
    length: Annotated[tuple[Positive, Positive], Field(description="[shortest, longest] in characters")] = (2, 3)
    """Shortest and longest string, in characters."""
    image_size: Size
    """Size of the drawing, [height, width]."""
    split: Literal["train", "heldout"] = "train"
    """Which of the two disjoint sets of strings."""
    fonts: Annotated[int, Field(ge=1, le=8)] = 4
    """How many typefaces (1 = sans only)."""
    colours: bool = True
    """Vary ink and paper colour; otherwise dark on light grey."""
    noise: Fraction = 0.05
    """Standard deviation of the pixel noise, as a share of the full range."""
    captions: Literal["short", "long"] = "short"
    """Task `t2i`: the text alone, or a sentence that also names colours, typeface, size and place."""


class Emoji(SourceBase):
    """Emoji of the OpenMoji font, captioned by their names: about 1,900, without skin tones. Needs the extra `emoji`."""

    kind: Literal["emoji"]
    """`emoji`"""
    task: Literal["mmu", "t2i"]
    """`mmu`: name the picture; `t2i`: draw the caption."""
    image_size: Size
    """Size of the picture, [height, width]."""
    split: Literal["train", "heldout"] = "train"
    """Which of two disjoint sets of emoji: nine in ten, or the others."""
    vary: bool = True
    """Scale and shift the emoji a little and vary the light paper behind it; otherwise as large as fits, centred on white."""


class PythonDocs(SourceBase):
    """English prose that ships with CPython (`pydoc_data.topics`); needs no download."""

    kind: Literal["python-docs"]
    """`python-docs`"""
    task: Literal["lm"]
    """Next-token prediction."""
    split: Literal["all", "train", "heldout"] = "all"
    """Which passages: all, a fixed tenth of them (`heldout`), or those that share no paragraph with that tenth (`train`)."""


class Columns(Node):
    """Names of the dataset's columns, where they differ from ours."""

    text: str = "text"
    """Task `lm`."""
    image: str = "image"
    """Tasks `mmu`, `t2i`: an image, its bytes, or a path relative to the data file."""
    question: str = "question"
    """Task `mmu`."""
    answer: str = "answer"
    """Task `mmu`: a string, or a list whose first entry is used."""
    caption: str = "caption"
    """Task `t2i`."""


class Dataset(SourceBase):
    """Anything the `datasets` library reads."""

    kind: Literal["dataset"]
    """`dataset`"""
    task: Literal["lm", "mmu", "t2i"]
    """`lm`: text; `mmu`: image and question → answer; `t2i`: caption → image."""
    path: str
    """Hub id, a local file or glob (.parquet, .jsonl, .json, .csv), a folder of such files, or an image folder."""
    config: str | None = None
    """Hub ids: the dataset's configuration name."""
    split: str = "train"
    """Split to read."""
    streaming: bool = False
    """Read while training instead of downloading first. Order and resume are then exact for a fixed number of processes
    only."""
    columns: Columns = Columns()
    """Column names."""


Source = Annotated[RenderedText | Emoji | PythonDocs | Dataset, Field(discriminator="kind")]


class Data(Node):
    """What the model learns from."""

    sequence_length: Positive
    """Tokens per packed row. Samples are packed into rows; an image is never cut."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that prepare data; 0 prepares it in the training process. Never changes what is trained on."""
    sources: Annotated[dict[Name, Source], Field(min_length=1)]
    """Named sources, for the mixtures of the phases."""


# ------------------------------------------------------------------------------------------------------------ phases


class Decay(Node):
    """How the learning rate falls between the end of the warm-up and the end of the phase."""

    kind: Literal["linear", "cosine"]
    """Shape of the curve."""
    floor: Fraction = 0.0
    """Share of the peak that is left at the end of the phase."""


class Shield(Node):
    """A factor on the gradient that tokens of given modalities send back through a module. Forward values never change."""

    module: Literal["shared"]
    """The shared experts (with their gate)."""
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)]
    """Tokens whose gradient is scaled."""
    mode: Literal["path", "weights"] = "path"
    """`path`: scale what flows back through the module's output, to its weights and its input. `weights`: only what
    reaches its weights."""
    factor: Fraction | Annotated[dict[Annotated[int, Field(ge=0)], Fraction], Field(min_length=1)]
    """0 cuts, 1 is open. One number, or {step in phase: factor}, each valid from that step on; must start with step 0."""


class LossWeights(Node):
    """Weights of the parts of the loss."""

    text: Rate = 1.0
    """Next-token cross-entropy, mean over target tokens."""
    flow: Rate = 1.0
    """Flow matching, mean over latent values."""
    balance: Rate = 0.01
    """Load balance of each expert group, mean over layers; computed per group, never across groups."""


class Phase(Node):
    """A stretch of training with its own mixture, learning rates, shields and frozen roles."""

    name: Name
    """Shown in logs and the report."""
    steps: Positive
    """Optimizer steps."""
    tokens_per_step: Positive
    """Tokens per optimizer step over all processes; a multiple of sequence_length × accumulate."""
    accumulate: Positive = 1
    """Micro-batches per step. Changes memory, never the result."""
    mixture: Annotated[dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)]
    """{source: weight}; weights are relative numbers of samples."""
    learning_rate: Annotated[dict[str, Rate], Field(min_length=1)]
    """{role: peak rate}. A role (`experts.generation`, `shared`), a pattern (`experts.*`) or `default`; the most specific
    one wins."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps over which the rate rises linearly from 0."""
    decay: Decay | None = None
    """Fall after the warm-up; none = constant."""
    freeze: tuple[str, ...] = ()
    """Roles or patterns that this phase leaves bit-identical."""
    shields: tuple[Shield, ...] = ()
    """Gradient shields."""
    loss: LossWeights = LossWeights()
    """Weights of the parts of the loss."""


# ---------------------------------------------------------------------------------------------------------- training


class AdamW(Node):
    """AdamW (torch)."""

    kind: Literal["adamw"] = "adamw"
    """`adamw`"""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    """Decay of the first and second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator."""
    weight_decay: Rate = 0.1
    """Decoupled decay, on tensors of two or more dimensions only."""


class Ema(Node):
    """Exponential moving average of the trained weights, used for samples, evaluation and the final model."""

    decay: Annotated[float, Field(gt=0, lt=1)]
    """Share of the average kept at each step."""


class Checkpoints(Node):
    """Saved state, from which a run resumes exactly."""

    every: Positive = 500
    """Steps between checkpoints; one is also written at the end of each phase and on Ctrl-C."""
    keep: Annotated[int, Field(ge=2)] = 2
    """How many are kept."""


class Sampling(Node):
    """How images are drawn from noise, in training and as defaults of `smoe generate`."""

    every: Positive | None = None
    """Training steps between sample grids, in phases that train on `t2i`; one is always drawn at the end of such a phase."""
    prompts: tuple[str, ...] = ()
    """Captions to draw in training; none = no grid."""
    steps: Positive = 50
    """Euler steps."""
    shift: Annotated[float, Field(gt=0)] = 3.0
    """Timestep shift when sampling; larger spends more steps on noisy images."""
    guidance: Annotated[float, Field(ge=1)] = 4.0
    """Classifier-free guidance; 1 = none."""
    guidance_interval: tuple[Fraction, Fraction] = (0.4, 1.0)
    """Guidance is used for low < t ≤ high only."""
    renormalise: bool = False
    """Rescale the guided velocity to the length of the conditional one."""


class Training(Node):
    """How the phases are run."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast; weights and optimizer stay float32."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """Attention kernel in transformers."""
    experts: Literal["grouped_mm", "eager", "batched_mm"] = "grouped_mm"
    """Expert kernel; `eager` is the slow reference."""
    optimizer: AdamW = AdamW()
    """Optimizer."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the whole gradient."""
    ema: Ema | None = None
    """Averaged weights."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time, same result."""
    max_nonfinite: Positive = 5
    """A step with a non-finite loss or gradient is skipped and counted; this many in a row stop the run."""
    log_every: Positive = 10
    """Steps between lines of metrics.jsonl."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Experiment trackers, besides metrics.jsonl."""
    checkpoints: Checkpoints = Checkpoints()
    """Checkpoints."""
    sampling: Sampling = Sampling()
    """Drawing images."""


# ------------------------------------------------------------------------------------------------------------ recipe


class Recipe(Node):
    """A recipe: one experiment, from data to evaluated model."""

    kind: Literal["smoe/recipe"]
    """Always `smoe/recipe`."""
    version: Literal[1]
    """Version of the recipe language."""
    name: Name
    """Name of the experiment; the run directory is runs/<name>."""
    description: str = ""
    """What the experiment is for; shown in the report."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of weights, data order, noise and samples."""
    model: Model
    """The model."""
    data: Data
    """The data."""
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]
    """Phases, run in order."""
    training: Training = Training()
    """How the phases are run."""
    evaluation: Evaluation = Evaluation()
    """What is measured."""
