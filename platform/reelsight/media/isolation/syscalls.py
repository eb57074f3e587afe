"""A seccomp filter: the system calls that decoding never needs, refused by the kernel.

It refuses rather than allows: what a decoder or an allocator needs differs from build to build, and
what must not happen does not. It is written for x86-64; elsewhere a worker does without, and its
process limit and its group's end stand alone. This module knows numbers, not decoders.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

__all__ = ["refuse_syscalls"]

# linux/seccomp.h, linux/bpf_common.h, linux/audit.h.
_PR_SET_SECCOMP, _FILTER_MODE = 22, 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_AT_NUMBER, _AT_ARCH, _AT_ARGS = 0, 4, 16
_X86_64, _X32_NUMBERS = 0xC000003E, 0x40000000

_CLONE, _CLONE3, _OPEN, _OPENAT, _OPENAT2, _KILL_CALL, _TGKILL, _PRLIMIT = (
    56,
    435,
    2,
    257,
    437,
    62,
    234,
    302,
)
_CLONE_THREAD = 0x00010000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

# Named as in asm/unistd_64.h.
_REFUSED = {
    # Processes: no child, no other program, no other group.
    **{"fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "setsid": 112, "setpgid": 109},
    # Other processes.
    **{"ptrace": 101, "tkill": 200, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297},
    **{"pidfd_open": 434, "pidfd_getfd": 438, "pidfd_send_signal": 424},
    **{"process_vm_readv": 310, "process_vm_writev": 311},
    # Network, and memory that no address space limit counts.
    **{"socket": 41, "connect": 42, "bind": 49, "listen": 50, "accept": 43, "accept4": 288},
    **{"memfd_create": 319, "memfd_secret": 447, "shmget": 29, "msgget": 68, "semget": 64},
    # The file system's names and modes; opening for writing is refused below.
    **{"creat": 85, "truncate": 76, "rename": 82, "renameat": 264, "renameat2": 316},
    **{"mkdir": 83, "mkdirat": 258, "rmdir": 84, "unlink": 87, "unlinkat": 263},
    **{"link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266, "mknod": 133, "mknodat": 259},
    **{"chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452},
    **{"chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260, "chroot": 161},
    # The kernel's larger surfaces.
    **{"unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155},
    **{"bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425},
    **{"add_key": 248, "request_key": 249, "keyctl": 250, "kexec_load": 246},
    **{"init_module": 175, "finit_module": 313, "delete_module": 176, "reboot": 169},
}


def refuse_syscalls() -> bool:
    """Refuse them for this process, for good; needs no_new_privs.

    Returns:
        Whether the kernel took the filter.
    """
    if platform.machine() != "x86_64" or struct.calcsize("P") != 8:
        return False
    code = _program(os.getpid())
    kept = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions, and where they are.
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, program, 0, 0) == 0)


def _program(pid: int) -> bytes:
    """The filter of the process `pid`, which may signal itself alone."""
    refuse = _ERRNO | errno.EPERM
    steps = [
        _step(_LOAD, _AT_ARCH),
        _step(_EQUAL, _X86_64, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _AT_NUMBER),
        _step(_AT_LEAST, _X32_NUMBERS, 0, 1),
        _step(_RETURN, refuse),
    ]
    for number in _REFUSED.values():
        steps += _if(number, [_step(_RETURN, refuse)])
    # The C library tries the older call when these are unknown.
    for number in (_CLONE3, _OPENAT2):
        steps += _if(number, [_step(_RETURN, _ERRNO | errno.ENOSYS)])
    steps += _if(_CLONE, _unless(0, _ANY_BIT, _CLONE_THREAD))
    for number in (_KILL_CALL, _TGKILL):
        steps += _if(number, _unless(0, _EQUAL, pid))
    steps += _if(_PRLIMIT, _unless(0, _EQUAL, 0))
    for number, argument in ((_OPEN, 1), (_OPENAT, 2)):
        steps += _if(number, _unless(argument, _ANY_BIT, _WRITING, allow=False))
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _if(number: int, body: list[bytes]) -> list[bytes]:
    return [_step(_EQUAL, number, 0, len(body)), *body]


def _unless(argument: int, test: int, value: int, *, allow: bool = True) -> list[bytes]:
    """Ends the program: allowed when the argument's low half passes the test, or the reverse."""
    verdicts = (_ALLOW, _ERRNO | errno.EPERM)
    passed, failed = verdicts if allow else verdicts[::-1]
    return [
        _step(_LOAD, _AT_ARGS + 8 * argument),
        _step(test, value, 0, 1),
        _step(_RETURN, passed),
        _step(_RETURN, failed),
    ]


def _step(code: int, value: int, on_true: int = 0, on_false: int = 0) -> bytes:
    """One struct sock_filter."""
    return struct.pack("HBBI", code, on_true, on_false, value)
