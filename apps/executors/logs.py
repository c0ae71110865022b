"""The log of one attempt: bytes become text as they arrive, made safe to store and held to a limit."""

import codecs
import math

from apps.executors.types import Sink, Stream

MAX_PROGRESS_MESSAGE = 1_000
NOTICE_BEGINS = "\n[the log ends here"
NOTICE = NOTICE_BEGINS + ": this attempt wrote more than {limit:,} bytes]\n"


class CappedLog:
    """A sink before the sink: at most `limit` bytes of UTF-8 for all streams together, one notice, then nothing more.

    What is no UTF-8 becomes U+FFFD; a character that a read cut is kept until the rest of it arrives; NUL, which no
    database takes as text, is left out. Belongs to one event loop.
    """

    def __init__(self, sink: Sink, *, limit: int) -> None:
        self._sink = sink
        self._limit = limit
        self._left = limit
        self._ended = False
        self._decoders: dict[Stream, codecs.IncrementalDecoder] = {}

    def write(self, stream: Stream, data: bytes) -> None:
        """Append bytes as they were read."""
        if self._ended:
            return
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        self.log(stream, decoder.decode(data))

    def log(self, stream: Stream, text: str) -> None:
        """Append text."""
        if self._ended or not text:
            return
        encoded = _clean(text)
        if len(encoded) <= self._left:
            self._left -= len(encoded)
            kept = encoded.decode()
        else:
            self._ended = True
            kept = encoded[: self._left].decode("utf-8", "ignore")
        if kept:
            self._sink.log(stream, kept)
        if self._ended:  # by itself, so that a sink can tell it from what was cut
            self._sink.log(stream, NOTICE.format(limit=self._limit))

    def progress(self, percent: float, message: str = "") -> None:
        """Pass on a finite percentage, held between 0 and 100."""
        if math.isfinite(percent):
            short = _clean(message[:MAX_PROGRESS_MESSAGE]).decode()
            self._sink.progress(min(100.0, max(0.0, percent)), short)

    def close(self) -> None:
        """Write what is left of characters that were never completed."""
        for stream, decoder in self._decoders.items():
            self.log(stream, decoder.decode(b"", final=True))
        self._decoders.clear()


def _clean(text: str) -> bytes:
    # Lone surrogates, three bytes each, come out as U+FFFD, three bytes too.
    return text.replace("\0", "").encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
