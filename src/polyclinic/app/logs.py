"""Logging of every process: one line an event on standard error, without patient data."""

from __future__ import annotations

import logging
import sys
import warnings

import structlog


def start_logging(level: str) -> None:
    """Set up the standard library's logging and structlog alike, at `level`."""
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True
    )
    # Loggers of libraries that write identifiers of patients or a line a request.
    for name in ("pynetdicom", "uvicorn.access", "httpx", "dbos", "fontTools"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # pydicom quotes the values it complains about, and sets its level itself when it is imported
    logging.getLogger("pydicom").addHandler(logging.NullHandler())
    logging.getLogger("pydicom").propagate = False
    warnings.filterwarnings("ignore", category=UserWarning)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
