"""The training loop, on Accelerate.

Learning rates and shields are pure functions of the step; data of the step and the lane; losses have global denominators. What
happens between two checkpoints is therefore a function of the first one alone.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from smoe_cli.data.loader import PhaseLoader, Step, merge_reports
from smoe_cli.errors import Failure
from smoe_cli.eval.run import evaluating
from smoe_cli.model.model import ActiveShield, SymbioticModel
from smoe_cli.model.routing import LayerRouting
from smoe_cli.plan import Plan
from smoe_cli.plan.schedule import learning_rate, shield_factor
from smoe_cli.recipe.models import LossWeights, Phase, Recipe
from smoe_cli.recipe.nodes import MODALITIES
from smoe_cli.train import checkpoint
from smoe_cli.train.ema import Average
from smoe_cli.train.losses import Balance, denominators, micro_loss
from smoe_cli.train.measure import measure_step
from smoe_cli.train.metrics import JsonLines, Window, utilisation_and_capacity, window_line
from smoe_cli.train.optimizer import build_optimizer, freeze, role_of_parameters
from smoe_cli.train.progress import Display
from smoe_cli.train.randomness import random_state_kept
from smoe_cli.train.samples import draws_images, sample


class Stopped(Exception):
    """Ctrl-C or SIGTERM: the step was finished and a checkpoint saved. `signal` is its number."""

    def __init__(self, number: int, step: int, folder: Path):
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")
        self.signal, self.step, self.folder = number, step, folder


class Trainer:
    """One run: model, optimizer, averages, counters, files."""

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        model: SymbioticModel,
        tokenizer: PreTrainedTokenizerFast,
        folder: Path,
        accelerator: Accelerator,
    ):
        self.recipe, self.plan, self.tokenizer, self.folder, self.accelerator = recipe, plan, tokenizer, folder, accelerator
        self.model = model.to(accelerator.device)
        self.roles = role_of_parameters(self.model, plan)
        self.optimizer = build_optimizer(self.model, plan, recipe.training.optimizer)
        trained = {role for phase in plan.phases for role in phase.rates}
        names = frozenset(n for n, role in self.roles.items() if role in trained)
        self.average = Average(self.model, recipe.training.ema.decay, names) if recipe.training.ema else None
        self.balance = Balance(plan, accelerator.device)
        self.window = Window()
        self.state = checkpoint.State()
        self.source_names = tuple(recipe.data.sources)
        self.tokens_seen, self.clock = 0, time.monotonic()
        self.stop_signal, self.in_steps = 0, False

    # ------------------------------------------------------------------------------------------------------- resume

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint."""
        averages = self.average.tensors if self.average else None
        self.state = checkpoint.restore(folder, self.model, self.optimizer, averages)
        extra = self.state.extra
        if self.average:
            self.average.updates = self.state.ema_updates
        self.balance.fraction_LE = extra["balance.fraction"].to(self.accelerator.device)
        self.window.sums = {n.removeprefix("window."): t for n, t in extra.items() if n.startswith("window.")}
        random_states = extra["random.cpu"]
        if self.accelerator.num_processes == len(random_states):
            torch.set_rng_state(random_states[self.accelerator.process_index])

    def save(self) -> None:
        """Write a checkpoint (all processes call this; the first one writes)."""
        accelerator = self.accelerator
        lanes: dict[str, Any] = {}
        for part in gather_object([self.state.data]):
            lanes |= part
        random_states = accelerator.gather(torch.get_rng_state()[None].to(accelerator.device)).cpu()
        if accelerator.is_main_process:
            for file in self.files:
                file.sync()
            extra = {f"window.{n}": t for n, t in self.window.sums.items()}
            extra |= {"balance.fraction": self.balance.fraction_LE.cpu(), "random.cpu": random_states}
            state = checkpoint.State(**{**vars(self.state), "data": lanes, "extra": extra})
            if self.average:
                state.ema_updates = self.average.updates
            keep = self.recipe.training.checkpoints.keep
            checkpoint.save(
                self.folder / "checkpoints",
                state,
                self.model,
                self.optimizer,
                self.average.tensors if self.average else None,
                keep,
            )
        accelerator.wait_for_everyone()

    # --------------------------------------------------------------------------------------------------------- files

    @contextmanager
    def open_files(self) -> Iterator[None]:
        """Metric files, cut back to the step that the run continues from."""
        if self.accelerator.is_main_process:
            names = ("metrics", "routing", "timings", "samples")
            self.files = [JsonLines(self.folder / f"{n}.jsonl", self.state.step) for n in names]
        try:
            yield
        finally:
            for file in getattr(self, "files", []):
                file.close()

    @contextmanager
    def weights_for_use(self) -> Iterator[SymbioticModel]:
        """The model in evaluation mode, with averaged weights if the recipe keeps them, on a copy of the random state; training
        goes on unchanged after."""
        with ExitStack() as stack:
            stack.enter_context(random_state_kept())
            if self.average:
                stack.enter_context(self.average.applied(self.model))
            stack.enter_context(evaluating(self.model))
            yield self.model

    # ---------------------------------------------------------------------------------------------------------- loop

    def run_phase(self, index: int, display: Display) -> None:
        """Train phase `index` from the current step to its end, drawing and measuring where the recipe says so.

        Raises Stopped after a signal and Failure on divergence.
        """
        phase, planned = self.recipe.phases[index], self.plan.phases[index]
        end = planned.start + planned.steps
        freeze(self.model, self.roles, frozenset(planned.rates))
        self.model.train()
        # wrapped anew for each phase: data-parallel wrappers fix the set of trained parameters when they are made
        accelerator = self.accelerator
        wrapped = accelerator.prepare_model(self.model)
        optimizer = self.optimizer
        loader = PhaseLoader(
            self.recipe,
            self.plan,
            index,
            self.tokenizer,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            state=self.state.data or None,
        )
        every, grid_every = self.recipe.training.checkpoints.every, self.recipe.training.sampling.every
        during = self.recipe.evaluation.during
        draws = draws_images(self.recipe, index)
        steps = iter(loader)
        stop = 0
        self.in_steps, self.clock = True, time.monotonic()  # what came before the phase is not its time
        while self.state.step < end and not stop:
            if self.state.step in during:  # here, not after the step: a run that was stopped meanwhile comes by again
                self._measure(phase.name, display)
            in_phase = self.state.step - planned.start
            for group in optimizer.param_groups:
                role = group["role"]
                group["lr"] = learning_rate(phase, planned.rates[role], in_phase) if role in planned.rates else 0.0
            shields = [ActiveShield(s.module, s.modalities, s.mode, shield_factor(s, in_phase)) for s in phase.shields]
            step = next(steps)
            self._step(wrapped, step, phase.loss, shields)
            self.state.step += 1
            self.state.data = step.state
            self._after_step(phase, planned.rates, in_phase, shields, display)
            stop = int(self._reduce(torch.tensor(self.stop_signal, device=accelerator.device), "max"))
            if grid_every and draws and self.state.step % grid_every == 0 and accelerator.is_main_process:
                sample(self, phase.name)
            # before an evaluation too, which may be long, run out of memory or be interrupted
            if stop or self.state.step % every == 0 or self.state.step == end or self.state.step in during:
                if self.state.step == end:
                    self.state.report = merge_reports([self.state.report, *gather_object([loader.report()])])
                    self.state.data = {}  # the next phase draws from lanes of its own
                self.save()
        self.in_steps = False
        accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
        accelerator.free_memory()
        if stop:
            raise Stopped(stop, self.state.step, self.folder)

    def _measure(self, phase: str, display: Display) -> None:
        """The first process evaluates, the others wait; the clock stands still. A signal ends it at once: all is saved."""
        began, self.in_steps = time.monotonic(), False
        if self.stop_signal:
            raise Stopped(self.stop_signal, self.state.step, self.folder)
        if self.accelerator.is_main_process:
            measure_step(self, phase, display)
        self.accelerator.wait_for_everyone()
        self.in_steps = True
        self.clock += time.monotonic() - began

    def _reduce(self, tensor: Tensor, how: str = "sum") -> Tensor:
        """The same tensor on every process: summed, or the largest of each value."""
        if self.accelerator.num_processes == 1:
            return tensor
        return self.accelerator.gather(tensor[None]).amax(0) if how == "max" else self.accelerator.reduce(tensor, how)

    def _step(self, wrapped: torch.nn.Module, step: Step, weights: LossWeights, shields: list[ActiveShield]) -> None:
        """One optimizer step: all micro-batches, clipping, AdamW; skipped if anything is not finite."""
        accelerator, window, device = self.accelerator, self.window, self.accelerator.device
        batches = [{k: v.to(device, non_blocking=True) for k, v in batch.items()} for batch in step.micro_batches]
        over = denominators(step.counts, self.plan, device, self._reduce)
        parts, routing = [], []
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            with nullcontext() if last else accelerator.no_sync(wrapped):
                outputs = wrapped(batch, shields)
                # Data parallelism averages gradients over processes; the loss is a sum over them. Not `accelerator.backward`,
                # which divides by an accumulation that its environment sets behind our back.
                (micro_loss(outputs, weights, over, self.balance) * accelerator.num_processes).backward()
            parts.append(
                torch.stack([outputs.text_losses, outputs.text_counts, outputs.flow_losses, outputs.flow_counts])
                .detach()
                .double()
            )
            routing.append([LayerRouting(r.counts_ME, tuple(s.detach() for s in r.prob_sums)) for r in outputs.routing])
        sums_4F = self._reduce(torch.stack(parts).sum(0))
        counts_LME, prob_sums = self._routing(routing)
        balance = self.balance.update(counts_LME, prob_sums, over)
        total = (
            weights.text * sums_4F[0].sum() / max(over.text, 1.0)
            + weights.flow * sums_4F[2].sum() / max(over.flow, 1.0)
            + weights.balance * balance
        )
        norms = self._gradient_norms()
        norm = torch.stack(list(norms.values())).norm()
        if bool(torch.isfinite(total) & torch.isfinite(norm)):
            if (limit := self.recipe.training.clip_norm) is not None:
                torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), limit, norm)
            self.optimizer.step()
            if self.average:
                self.average.update(self.model)
            self.state.skipped_in_row = 0
            self._record(sums_4F, float(total), float(balance), norms, float(norm), counts_LME, over.modalities)
        else:
            self._skip(float(total), norms)
        self.optimizer.zero_grad(set_to_none=True)
        window.add("tokens", torch.tensor(over.modalities))
        self.tokens_seen += int(sum(over.modalities))

    def _skip(self, total: float, norms: dict[str, Tensor]) -> None:
        self.state.skipped += 1
        self.state.skipped_in_row += 1
        roles = [role for role, norm in norms.items() if not torch.isfinite(norm)]
        limit = self.recipe.training.max_nonfinite
        if self.state.skipped_in_row >= limit:
            raise Failure(
                f"{limit} steps in a row had a non-finite loss or gradient (last at step {self.state.step + 1}: loss {total}, "
                f"gradient of {', '.join(roles) or 'no role'}); stopped",
                "the last checkpoint is intact; lower the learning rate, lengthen the warm-up, or use precision: fp32",
            )

    def _gradient_norms(self) -> dict[str, Tensor]:
        """Norm of each role's gradient before clipping. The roles' squares add up to the square of the whole."""
        by_role: dict[str, list[Tensor]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                by_role.setdefault(self.roles[name], []).append(parameter.grad)
        return {role: torch.stack(torch._foreach_norm(grads)).norm() for role, grads in sorted(by_role.items())}

    def _routing(self, micro_batches: list[list[LayerRouting]]) -> tuple[Tensor, list[Tensor]]:
        """Global assignments (L, M, E) and per group probability sums (L, E_g) of the step."""
        counts = self._reduce(
            torch.stack([torch.stack([layer.counts_ME for layer in layers]) for layers in micro_batches]).sum(0)
        )
        sums = []
        for g in range(len(self.plan.groups)):
            per_batch = [torch.stack([layer.prob_sums[g] for layer in layers]) for layers in micro_batches]
            sums.append(self._reduce(torch.stack(per_batch).sum(0)))
        return counts, sums

    def _record(
        self,
        sums_4F: Tensor,
        total: float,
        balance: float,
        norms: dict[str, Tensor],
        norm: float,
        counts_LME: Tensor,
        tokens: tuple[float, ...],
    ) -> None:
        window = self.window
        for name, row in zip(("text_losses", "text_counts", "flow_losses", "flow_counts"), sums_4F, strict=True):
            window.add(name, row)
        for name, value in (("loss/total", total), ("loss/balance", balance), ("grad_norm", norm)):
            window.add(name, value)
            window.add(f"{name}#", 1)
        values = torch.stack(list(norms.values())).tolist()  # one wait for the device, not one for each role
        for role, role_norm in zip(norms, values, strict=True):
            window.add(f"grad_norm/{role}", role_norm)
            window.add(f"grad_norm/{role}#", 1)
        counts = counts_LME.cpu()
        utilisation, capacity = utilisation_and_capacity(counts, self.plan)
        window.add_present("routing/utilisation", utilisation)
        window.add_present("routing/capacity", capacity)
        window.add("counts", counts)

    def _after_step(
        self, phase: Phase, rates: dict[str, float], in_phase: int, shields: list[ActiveShield], display: Display
    ) -> None:
        now = time.monotonic()
        speed = self.tokens_seen / (now - self.clock) if now > self.clock else 0.0
        step, last = self.state.step, in_phase + 1 == phase.steps
        display.advance(phase.name, step, speed)
        if step % self.recipe.training.log_every and not last:
            return
        line: dict[str, Any] = {"step": step, "phase": phase.name}
        if "text_losses" in self.window.sums:
            line |= window_line(self.window, self.source_names)
        line |= {f"lr/{role}": learning_rate(phase, peak, in_phase) for role, peak in rates.items()}
        for shield in shields:
            line |= {f"shield/{shield.module}/{modality}": shield.factor for modality in shield.modalities}
        line["skipped_steps"] = self.state.skipped
        if self.accelerator.is_main_process:
            metrics, routing, timings, _ = self.files
            metrics.write(line)
            timings.write({"step": step, "seconds": round(now - self.clock, 3), "tokens_per_second": round(speed, 1)})
            if "counts" in self.window.sums:
                counts = self.window.sums["counts"]
                routing.write(
                    {
                        "step": step,
                        "phase": phase.name,
                        "experts": [{"group": g.name, "count": len(g.experts[0])} for g in self.plan.groups],
                        "counts": {m: counts[:, i].tolist() for i, m in enumerate(MODALITIES) if m in self.plan.group_of},
                    }
                )
        self.accelerator.log({k: v for k, v in line.items() if isinstance(v, int | float)}, step=step)
        display.log(phase.name, step, line)
        self.window.clear()
        self.tokens_seen, self.clock = 0, now


@contextmanager
def graceful_signals(trainer: Trainer) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks the loop to finish its step and save; a second one interrupts at once.

    Evaluation and the drawing after a phase are left at once, and done when the run goes on: everything is saved before them.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        if trainer.stop_signal:
            raise KeyboardInterrupt
        trainer.stop_signal = number
        if not trainer.in_steps:
            raise Stopped(number, trainer.state.step, trainer.folder)

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
