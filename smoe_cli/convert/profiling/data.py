"""What a profile is counted over: from a `--data` argument to samples that can be addressed, in a fixed order.

Rows come in a shuffled order that is the same in every run, so that the first N are a fair sample and a run can be continued.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from smoe_cli.convert.profiling.hash import fingerprint, fingerprint_text
from smoe_cli.data.files import find_files, is_local
from smoe_cli.data.hub import saved_to_disk
from smoe_cli.data.keys import shuffled
from smoe_cli.data.prose import passages
from smoe_cli.data.sample import BadRow, Sample
from smoe_cli.data.sources import Shuffled, Streamed, open_source
from smoe_cli.errors import UserError
from smoe_cli.eval.ocr.data import load_ocr
from smoe_cli.eval.text.mmlu import CONTINUATIONS, prompt
from smoe_cli.eval.text.mmlu_data import load_mmlu
from smoe_cli.eval.text.mmlu_subjects import SUBJECTS
from smoe_cli.recipe.models import Dataset, PythonDocs, SourceBase

PROSE = "python-docs"
SPLITS = ("train", "test", "validation")
"""Looked for in this order where the user names none."""
ORDER = "profile"
"""Key of the shuffle of questions."""
_NAME = "data"
_PREFIX = f'source "{_NAME}": '
"""How the data room begins its messages about a source of this name."""
HELP = "see `smoe profile --help` for what can be counted"


@dataclass(frozen=True)
class Documents:
    """One data source. content: hash of what it holds and how it is read. rows: how many there are.

    read: the sample at a position in the order of counting; raises BadRow. place: what that position means to the user.
    """

    name: str
    content: str
    task: str
    rows: int
    read: Callable[[int], Sample]
    place: Callable[[int], str]
    skip_bad: bool = True


def open_data(argument: str, limit: int | None, draws: bool = False) -> list[Documents]:
    """The data sources that a `--data` argument names: one, or those of a recipe. draws: those of task `t2i` among them.

    Raises UserError naming the argument and what is wrong with it.
    """
    if argument == PROSE:
        return [_of_spec(PROSE, PythonDocs(kind="python-docs", task="lm"))]
    path, split = _split(argument)
    local = Path(path).expanduser()
    if path.endswith((".yaml", ".yml")):
        return list(_recipe(local, limit, draws))
    if _is_mmlu(local):
        return [_mmlu(argument, local)]
    try:
        return [_dataset(argument, path, split)]
    except UserError as error:
        error.message = f"--data {argument}: {error.message.removeprefix(_PREFIX)}"
        error.help = error.help or HELP
        raise


def _split(argument: str) -> tuple[str, str | None]:
    """`PATH[:SPLIT]`; a path that exists is taken as it stands."""
    path, colon, split = argument.rpartition(":")
    if colon and split.isidentifier() and not Path(argument).expanduser().exists():
        return path, split
    return argument, None


def _is_mmlu(folder: Path) -> bool:
    """Whether a folder has MMLU's layout: a folder for each subject, or tables with a column of subjects."""
    if not folder.is_dir():
        return False
    if any(child.name in SUBJECTS and child.is_dir() for child in folder.iterdir()):
        return True
    tables = [
        file for file in folder.iterdir() if file.name.startswith("test") and file.suffix in (".parquet", ".jsonl", ".csv")
    ]
    return any({"subject", "choices", "question"} <= set(_columns(str(file), "train")) for file in tables[:1])


def _mmlu(name: str, folder: Path) -> Documents:
    """Each question with its right answer, without examples: the same five before each question would count as data."""
    data = load_mmlu(folder, shots=0)
    questions = [(subject.name, question) for subject in data.subjects for question in subject.test]
    where = [f"question {i + 1} of {subject.name}" for subject in data.subjects for i in range(len(subject.test))]
    n = len(questions)

    def read(position: int) -> Sample:
        subject, question = questions[shuffled(position, n, ORDER)]
        return Sample("lm", text=prompt(subject, question, ()) + CONTINUATIONS[question.answer])

    return Documents(name, fingerprint(data.files, "mmlu"), "lm", n, read, lambda i: where[shuffled(i, n, ORDER)])


def _ocr(name: str, path: Path) -> Documents:
    data = load_ocr(path)
    n = len(data.questions)

    def read(position: int) -> Sample:
        question = data.questions[shuffled(position, n, ORDER)]
        return Sample("mmu", text=question.answers[0], question=question.question, image=question.decode())

    def place(position: int) -> str:
        row = data.questions[shuffled(position, n, ORDER)].row
        return f"row {row.number} of {row.file}"

    return Documents(name, fingerprint(data.files, "ocr"), "mmu", n, read, place)


def _dataset(name: str, path: str, split: str | None) -> Documents:
    split = split or _first_split(path)
    columns = set(_columns(path, split))
    if {"question", "dataset", "question_type"} <= columns or {"question", "dataset_name", "type"} <= columns:
        return _ocr(name, Path(path).expanduser())
    if {"question", "answer"} <= columns and columns & {"image", "file_name"}:
        task = "mmu"
    elif "text" in columns:
        task = "lm"
    else:
        shown = ", ".join(sorted(columns)) or "none"
        raise UserError(
            f"neither a column `text` nor columns `image`, `question`, `answer` (columns: {shown})",
            "other names of columns can be given in a recipe file: its data sources are counted",
        )
    return _of_spec(name, Dataset.model_validate({"kind": "dataset", "task": task, "path": path, "split": split}))


def _columns(path: str, split: str) -> tuple[str, ...]:
    spec = Dataset.model_validate({"kind": "dataset", "task": "lm", "path": path, "split": split})
    source = open_source(_NAME, spec, seed=0, phase=0)
    assert isinstance(source, Shuffled)
    try:
        return source.columns()
    except BadRow as error:
        raise UserError(f"{source.place(0)}: {error.detail}") from None


def _first_split(path: str) -> str:
    """The only split of local files, or the first of SPLITS that there is."""
    root = Path(path).expanduser()
    if not is_local(path) or saved_to_disk(root):
        return SPLITS[0]
    for split in SPLITS:
        try:
            find_files(path, split)
        except UserError:
            continue
        return split
    find_files(path, SPLITS[0])  # says what is wrong
    raise AssertionError


def _recipe(path: Path, limit: int | None, draws: bool) -> Iterator[Documents]:
    from smoe_cli.recipe import load

    recipe = load(path).recipe
    for key, spec in recipe.data.sources.items():
        if spec.task == "t2i" and not draws:
            continue
        try:
            yield _of_spec(f"{path}: {key}", spec, recipe.seed, limit, spec.on_bad_row == "skip")
        except UserError as error:
            error.message = f'{path}: source "{key}": {error.message.removeprefix(_PREFIX)}'
            raise


def _of_spec(name: str, spec: SourceBase, seed: int = 0, limit: int | None = None, skip_bad: bool = True) -> Documents:
    """A source of the data room, its rows in the order of a shuffle that depends on nothing but how many they are.

    seed: of what is drawn on the spot, which never ends: `limit` says how much of it there is.
    """
    endless = not isinstance(spec, Dataset | PythonDocs)
    source = open_source(_NAME, spec, seed if endless else 0, phase=0)
    if isinstance(source, Streamed):
        raise UserError(
            "is streamed from the hub, and its rows cannot be found again to go on",
            "set `streaming: false`, or count a local copy",
        )
    if endless and limit is None:
        raise UserError("never ends", "pass --limit N")
    rows = limit if endless else source.rows
    assert rows is not None
    task: str = getattr(spec, "task")  # noqa: B009  (every kind of source has one, their base does not)
    return Documents(name, _content(spec, seed), task, rows, source.fetch, source.place, skip_bad)


def _content(spec: SourceBase, seed: int) -> str:
    """Hash of a source's data, as far as they lie here, and of the settings that decide what is made of them."""
    settings = spec.model_dump_json(exclude={"on_bad_row", "caption_dropout", "path"})
    if isinstance(spec, PythonDocs):
        return fingerprint_text(*passages(spec.split))
    if not isinstance(spec, Dataset):
        return fingerprint_text(settings, str(seed))
    if not is_local(spec.path):
        return fingerprint_text(settings, spec.path)
    root = Path(spec.path).expanduser()
    files = sorted(root.rglob("*.arrow")) if root.is_dir() and saved_to_disk(root) else find_files(spec.path, spec.split)
    return fingerprint(files, settings)


def key_of(documents: Documents, settings: str) -> str:
    """The key of a data source in a profile. settings: what else decides which tokens are made of it."""
    return hashlib.sha256(f"{documents.content}\0{settings}".encode()).hexdigest()
