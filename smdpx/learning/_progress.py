"""What a training tells its user: a bar where there is a terminal, else plain lines; something moves every two seconds.

Lines go to the logger "smdpx": `logging.getLogger("smdpx").setLevel("WARNING")` is silence.
"""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

__all__ = ["Progress", "showing", "telling_from_inside"]

EVERY = 2.0  # seconds
_WIDEST = 80  # letters of what a callback returns


class Progress(NamedTuple):
    """How far a training is.

    Attributes:
        update: updates done, over the whole curriculum; what a stage with patience leaves out counts as done.
        total: updates in all.
        window: the window size of the stage.
        loss: mean loss since the last report.
        updates_per_second: since the last report; the first of a stage holds its compilation.
        trained: the drift with the averaged weights so far; with validation, the best of the stage's reports so far.
        validation: the loss of the averaged weights on the validation trajectories; None without them.
    """

    update: int
    total: int
    window: int
    loss: float
    updates_per_second: float
    trained: Any
    validation: float | None = None


class _Stderr(logging.StreamHandler):
    """A handler that writes to what stderr is now: notebooks and tests exchange it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


logger = logging.getLogger("smdpx")
logger.addHandler(_Stderr())
logger.setLevel(logging.INFO)
logger.propagate = False


class _Display:
    """What is known of a training, and when something was last shown; a thread shows it again while nothing comes.

    Also of a store that is being written, which has trajectories in place of updates, and no windows.
    """

    def __init__(self, total: int, write: Callable[[str, int], None], tracing: "_Tracing | None" = None):
        self.total, self._write, self._tracing = total, write, tracing
        self.update, self.window, self.state = 0, 0, "compiling"
        self.ran: tuple[float, int] | None = None  # when a stage's program had first run: before that was compilation
        self.validation: float | None = None
        self.started = self.shown = time.monotonic()
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def begin(self, update: int, window: int = 0, state: str = "compiling") -> None:
        """A stage begins: its first updates wait for the compiler."""
        self.update, self.window, self.state, self.validation = update, window, state, None
        self.ran = None if state == "compiling" else (time.monotonic(), update)

    def move(self, update: int, loss: float | None = None) -> None:
        """The training got further."""
        self.update, self.ran = update, self.ran or (time.monotonic(), update)
        self.state = "" if loss is None else f"loss {loss:.4g}"
        if self.validation is not None:
            self.state += f", validation {self.validation:.4g}"
        if loss is not None and (rate := self._rate()):
            self.state += f", {rate:.0f} updates/s" if rate >= 10 else f", {1 / rate:.2g} s an update"
        self._show_in_time()

    def report(self, progress: Progress, metrics: Any) -> None:
        """A report, with what the user's callback had to say."""
        self.validation = progress.validation
        self.move(progress.update, progress.loss)
        self.state += _told(metrics)

    def _rate(self) -> float | None:
        """Updates a second of this stage; None until some have run after its compilation."""
        if self.ran is None or self.update == self.ran[1]:
            return None
        return (self.update - self.ran[1]) / max(time.monotonic() - self.ran[0], 1e-9)

    def skip(self, update: int) -> None:
        """The updates of a stage until this one were not needed."""
        self.state += f", stopped at {self.update:,}"
        self.update = update

    def end(self, show: bool = False) -> None:
        """Nothing more will come: where anything was shown, the last that is known is shown too."""
        self._over.set()
        if show or self.shown > self.started:
            self._show()

    def _watch(self) -> None:
        while not self._over.wait(max(EVERY / 4, 0.01)):
            # A program that was traced is compiled before the call that traced it returns, or not now.
            if self._tracing is not None and not self.update and self._tracing.over():
                return
            self._show_in_time()

    def _show_in_time(self) -> None:
        if time.monotonic() - self.shown >= EVERY * 0.9:
            self._show()

    def _show(self) -> None:
        self.shown = time.monotonic()
        seconds = self.shown - self.started
        parts = [f"window {self.window}" if self.window else "", self.state, f"{seconds:.0f} s"]
        parts += [f"{(self.total - self.update) / rate:.0f} s left"] if (rate := self._rate()) else []
        self._write(", ".join(filter(None, parts)), self.update)


def _told(metrics: Any) -> str:
    """What a callback returned, as a part of a line: a dictionary by its names, anything else as it prints itself."""
    if metrics is None:
        return ""
    if isinstance(metrics, Mapping):
        return "".join(f", {name} {_number(value)}" for name, value in metrics.items())
    return f", {_number(metrics)}"


def _number(value: Any) -> str:
    """A number in four digits; what is none must not end a training, and is shown as text, on one line."""
    try:
        return f"{value:.4g}"
    except (TypeError, ValueError):
        text = " ".join(str(value).split())
        return text if len(text) <= _WIDEST else f"{text[:_WIDEST]} ..."


def _lines(total: int, name: str = "fit", unit: str = "updates") -> Callable[[str, int], None]:
    return lambda text, update: logger.info("%s: %s of %s %s, %s", name, f"{update:,}", f"{total:,}", unit, text)


def _bar(total: int) -> tuple[Callable[[str, int], None], Callable[[], None]] | None:
    """How to write to tqdm's bar, and to close it; None without a terminal, or without tqdm."""
    if not sys.stderr.isatty() or not logger.isEnabledFor(logging.INFO):
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    bar = tqdm(total=total, unit_scale=True, bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {desc}")

    def write(text: str, update: int) -> None:
        bar.n = update
        bar.set_description_str(text)

    write("compiling", 0)
    return write, bar.close


@contextlib.contextmanager
def showing(total: int, name: str = "fit", unit: str = "updates") -> Iterator[_Display]:
    """A display of a training, or of a store that is written: tqdm's bar where there is a terminal, else lines."""
    bar = _bar(total)
    write, close = bar or (_lines(total, name, unit), lambda: None)
    display = _Display(total, write)
    try:
        yield display
    finally:
        display.end(show=bar is not None)
        close()


def telling_from_inside(total: int) -> Callable[[Any, int], None]:
    """A function that says, from inside of a compiled program, how far a traced training is."""
    display = _Display(total, _lines(total), tracing=_Tracing())

    def move(update: Any, window: int) -> None:
        display.window = window
        display.move(int(update))
        if int(update) >= total:
            display.end()

    def tell(update: Any, window: int) -> None:
        display.window = display.window or window
        jax.debug.callback(lambda update: move(update, window), update)

    return tell


class _Tracing:
    """The call of JAX that traces this thread's program: the outermost of its frames on the stack."""

    def __init__(self) -> None:
        self._thread, self._call, frame = threading.get_ident(), None, sys._getframe()
        while frame is not None:
            if frame.f_globals.get("__name__", "").startswith("jax."):
                self._call = frame
            frame = frame.f_back

    def over(self) -> bool:
        """Whether that call has returned."""
        frame = sys._current_frames().get(self._thread)
        while frame is not None:
            if frame is self._call:
                return False
            frame = frame.f_back
        return True
