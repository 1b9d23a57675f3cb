"""What `sampling` reads from the two samplers' own words."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.sampling import read_perf, read_py_spy


_NAMES = {7: "main", 8: "outbox"}

_PY_SPY = """\
thread (7): MainThread;run (trio/_core/_run.py:2424);read (bridge/a.py:3) 41
thread (7): MainThread;run (trio/_core/_run.py:2424);read (bridge/a.py:3) 1
thread (8): called from in_thread;Outbox.run (bridge/outbox/outbox.py:322) 5
thread (9): Trio thread 2;idle (trio/_core/_thread_cache.py:1) 100
thread (7): MainThread 3
"""

_PERF = """\
    7
\t           fb677 _PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)
\t    7f935dddf3c0 [unknown] ([unknown])

    8
\tffffffff813a2313 finish_task_switch.isra.0 ([kernel.kallsyms])
\tffffffff8143b4c2 __x64_sys_pwrite64 ([kernel.kallsyms])
\tffffffff81000130 entry_SYSCALL_64_after_hwframe ([kernel.kallsyms])
\t           85f16 pwrite (/usr/lib/libc.so.6)

    9
\t           fb677 _PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)

"""


def test_stacks_of_py_spy_are_counted_by_thread() -> None:
    """Threads have their names, and those that have none here are left out."""
    assert read_py_spy(_PY_SPY, _NAMES) == {
        "main": Counter(
            {("run (trio/_core/_run.py:2424)", "read (bridge/a.py:3)"): 42}
        ),
        "outbox": Counter({("Outbox.run (bridge/outbox/outbox.py:322)",): 5}),
    }


def test_samples_of_perf_are_counted_by_thread() -> None:
    """A sample is the library's that ran, or the kernel's with the call it was in."""
    assert read_perf(_PERF, _NAMES) == {
        "main": Counter({("libpython3.11",): 1}),
        "outbox": Counter({("kernel", "pwrite"): 1}),
    }


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("1 f (/v/site-packages/msgspec/_core.cpython-311-x.so)", "msgspec/_core"),
        ("1 f (/v/lib-dynload/_sqlite3.cpython-311-x.so)", "_sqlite3"),
        ("1 sqlite3_step (/usr/lib/libsqlite3.so.0.8.6)", "libsqlite3"),
        ("1 [unknown] ([unknown])", "[unknown]"),
    ],
)
def test_libraries_have_short_names(line: str, place: str) -> None:
    """Neither a version nor a platform, and a package's name where there is one."""
    assert read_perf(f"7\n\t{line}\n", _NAMES) == {"main": Counter({(place,): 1})}


@pytest.mark.parametrize(
    ("symbol", "call"),
    [
        ("__do_sys_newfstatat", "newfstatat"),
        ("__arm64_sys_futex", "futex"),
        ("asm_exc_page_fault", "page faults"),
        ("asm_sysvec_apic_timer_interrupt", "interrupts"),
        ("do_syscall_64", "other"),
    ],
)
def test_kernel_is_told_by_what_it_was_entered_for(symbol: str, call: str) -> None:
    """A call has its name, on whichever processor; faults and interrupts are apart."""
    text = f"7\n\t1 clear_page ([kernel.kallsyms])\n\t2 {symbol} ([kernel.kallsyms])\n"

    assert read_perf(text, _NAMES) == {"main": Counter({("kernel", call): 1})}
