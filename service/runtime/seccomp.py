"""The system calls that a container may make: Docker's default filter, and profiles in Docker's format.

The default allows what is named here and answers EPERM to the rest. It decides as Docker's default profile does
(docs.docker.com/engine/security/seccomp; compared rule by rule in tests/service/runtime/test_seccomp.py); the groups
are ours. A name that the architecture or the installed libseccomp does not know is passed over by runc.
"""

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

ALLOW = "SCMP_ACT_ALLOW"
ERRNO = "SCMP_ACT_ERRNO"
_EPERM, _ENOSYS = 1, 38

# machine (uname -m) → Docker's name of it, its own seccomp architecture, and those whose programs it also runs
_MACHINES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64", ("SCMP_ARCH_X86", "SCMP_ARCH_X32")),
    "i386": ("x86", "SCMP_ARCH_X86", ()),
    "i686": ("x86", "SCMP_ARCH_X86", ()),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64", ("SCMP_ARCH_ARM",)),
    "armv7l": ("arm", "SCMP_ARCH_ARM", ()),
    "armv6l": ("arm", "SCMP_ARCH_ARM", ()),
    "mips64": ("mips64", "SCMP_ARCH_MIPS64", ("SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32")),
    "mips64el": ("mipsel64", "SCMP_ARCH_MIPSEL64", ("SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32")),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE", ()),
    "s390x": ("s390x", "SCMP_ARCH_S390X", ("SCMP_ARCH_S390",)),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64", ()),
    "loongarch64": ("loong64", "SCMP_ARCH_LOONGARCH64", ()),
}

_ALWAYS_GROUPS = (
    # files and directories by name
    "access chdir chmod chown chown32 creat faccessat faccessat2 fchdir fchmod fchmodat fchmodat2 fchown fchown32 "
    "fchownat futimesat getcwd lchown lchown32 link linkat mkdir mkdirat mknod mknodat name_to_handle_at open "
    "openat openat2 readlink readlinkat rename renameat renameat2 rmdir symlink symlinkat truncate truncate64 "
    "umask unlink unlinkat utime utimensat utimensat_time64 utimes",
    # what a file is, and its extended attributes
    "fgetxattr flistxattr fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 getxattr getxattrat "
    "lgetxattr listmount listxattr listxattrat llistxattr lremovexattr lsetxattr lstat lstat64 newfstatat "
    "removexattr removexattrat setxattr setxattrat stat stat64 statfs statfs64 statmount statx",
    # reading, writing and what belongs to an open file
    "_llseek close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fcntl fcntl64 "
    "fdatasync flock fsync ftruncate ftruncate64 getdents getdents64 ioctl lseek pipe pipe2 pread64 preadv "
    "preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile sendfile64 splice sync sync_file_range "
    "syncfs tee vmsplice write writev cachestat",
    # asynchronous I/O, readiness and notification
    "_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait "
    "epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch "
    "io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioprio_get "
    "ioprio_set poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4",
    # sockets (socket itself has its own rules below)
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 "
    "recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair",
    # memory
    "brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 "
    "mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages",
    # System V and POSIX IPC
    "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 "
    "mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt "
    "shmget",
    # processes and threads
    "execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake "
    "get_robust_list get_thread_area getpgid getpgrp getpid getppid getsid gettid pause pidfd_open "
    "pidfd_send_signal prctl process_mrelease restart_syscall rseq set_robust_list set_thread_area "
    "set_tid_address setpgid setsid uretprobe vfork wait4 waitid waitpid",
    # signals
    "kill rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait "
    "rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn tgkill tkill",
    # who one is, and giving rights up
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid "
    "getresgid32 getresuid getresuid32 getuid getuid32 landlock_add_rule landlock_create_ruleset "
    "landlock_restrict_self seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 "
    "setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32",
    # scheduling, limits and accounts of use
    "getcpu getpriority getrlimit getrusage prlimit64 sched_get_priority_max sched_get_priority_min "
    "sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval "
    "sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield "
    "setpriority setrlimit times ugetrlimit",
    # time (adjtimex and its kin are refused by the kernel without CAP_SYS_TIME; reading with them is allowed)
    "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 "
    "clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create "
    "timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create "
    "timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    # the machine
    "getrandom riscv_hwprobe sysinfo uname",
)
_ALWAYS = [name for group in _ALWAYS_GROUPS for name in group.split()]

_BY_MACHINE: dict[str, str] = {
    "amd64": "arch_prctl modify_ldt",
    "x86": "modify_ldt",
    "arm": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "arm64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "ppc64le": "swapcontext sync_file_range2",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    "riscv64": "riscv_flush_icache",
}

_BY_CAPABILITY: dict[str, str] = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr "
        "lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl "
        "quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

# Tracing within one's own namespace became safe with the kernel's seccomp order of 4.8 (ptrace no longer escapes it).
_SINCE_4_8 = "process_vm_readv process_vm_writev ptrace"
# personality(2): PER_LINUX, PER_LINUX32, UNAME26, both, and "only ask"
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_AF_ALG, _AF_VSOCK = 38, 40


def default_profile(machine: str, kernel: tuple[int, int], capabilities: "Collection[str]") -> "dict[str, Any]":
    """The `linux.seccomp` object of Docker's default filter for a container with these capabilities.

    `machine` as uname says it; one that is not known gets the rules without an architecture list (runc: native).
    """
    own, native, companions = _MACHINES.get(machine, ("", "", ()))
    names = [*_ALWAYS, *_BY_MACHINE.get(own, "").split()]
    if kernel >= (4, 8):
        names += _SINCE_4_8.split()
    for capability, granted in _BY_CAPABILITY.items():
        if capability in capabilities:
            names += granted.split()
    rules = [_allow(names), *_sockets(), *(_allow(["personality"], (0, p, 0, "EQ")) for p in _PERSONALITIES)]
    if "CAP_SYS_ADMIN" not in capabilities:
        # clone3 passes its flags in memory that a filter cannot read: ENOSYS makes the C library fall back to clone
        flags_argument = 1 if own == "s390x" else 0
        rules.append(_allow(["clone"], (flags_argument, _NEW_NAMESPACES, 0, "MASKED_EQ")))
        rules.append({"names": ["clone3"], "action": ERRNO, "errnoRet": _ENOSYS})
    profile: dict[str, Any] = {"defaultAction": ERRNO, "defaultErrnoRet": _EPERM}
    if native:
        profile["architectures"] = [native, *companions]
    return {**profile, "syscalls": rules}


def _allow(names: list[str], argument: "tuple[int, int, int, str] | None" = None) -> "dict[str, Any]":
    rule: dict[str, Any] = {"names": list(dict.fromkeys(names)), "action": ALLOW}
    if argument:
        index, value, second, operator = argument
        rule["args"] = [{"index": index, "value": value, "op": "SCMP_CMP_" + operator}]
        if operator == "MASKED_EQ":
            rule["args"][0]["valueTwo"] = second
    return rule


def _sockets() -> "list[dict[str, Any]]":
    """Every address family but AF_ALG (kernel crypto, a way to old bugs) and AF_VSOCK (reaches the hypervisor).

    libseccomp joins the rules of one call by "or", so "neither 38 nor 40" is said as three ranges.
    """
    return [
        _allow(["socket"], (0, _AF_ALG, 0, "LT")),
        _allow(["socket"], (0, _AF_ALG + 1, 0, "EQ")),
        _allow(["socket"], (0, _AF_VSOCK, 0, "GT")),
    ]


def user_profile(
    profile: "dict[str, Any]", machine: str, kernel: tuple[int, int], capabilities: "Collection[str]"
) -> "dict[str, Any]":
    """A profile in Docker's format (`--security-opt seccomp=FILE`, whose content the client sends) as OCI's.

    Rules with `includes`/`excludes` are kept or dropped by architecture, capability and kernel. Raises
    InvalidParameter where dockerd does (docs.docker.com/engine/security/seccomp; moby profiles/seccomp).
    """
    if profile.get("architectures") and profile.get("archMap"):
        raise InvalidParameter("both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'")  # fmt: skip  # noqa: E501 - dockerd's sentence, one piece
    own, native, _ = _MACHINES.get(machine, ("", "", ()))
    result: dict[str, Any] = {
        key: profile[key]
        for key in ("defaultAction", "defaultErrnoRet", "listenerPath", "listenerMetadata", "flags")
        if profile.get(key) not in (None, "", [])
    }
    architectures = profile.get("architectures")
    for entry in profile.get("archMap") or ():
        if entry.get("architecture") == native:
            architectures = [native, *(entry.get("subArchitectures") or ())]
            break
    if architectures:
        result["architectures"] = architectures
    result["syscalls"] = []
    for rule in profile.get("syscalls") or ():
        if _applies(rule, own, kernel, capabilities):
            result["syscalls"].append(_user_rule(rule))
    return result


def _applies(rule: "dict[str, Any]", own: str, kernel: tuple[int, int], capabilities: "Collection[str]") -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if own in (excludes.get("arches") or ()) or any(name in capabilities for name in excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and kernel >= _version(excludes["minKernel"]):
        return False
    if includes.get("arches") and own not in includes["arches"]:
        return False
    if any(name not in capabilities for name in includes.get("caps") or ()):
        return False
    return not (includes.get("minKernel") and kernel < _version(includes["minKernel"]))


def _version(text: str) -> tuple[int, int]:
    major, dot, minor = str(text).partition(".")
    if not dot or not major.isdigit() or not minor.isdigit():
        raise InvalidParameter(f"failed to parse kernel version: {text!r}: must be of the form MAJOR.MINOR")
    return int(major), int(minor)


def _user_rule(rule: "dict[str, Any]") -> "dict[str, Any]":
    name, names = rule.get("name"), rule.get("names")
    if name and names:
        raise InvalidParameter("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")  # fmt: skip  # noqa: E501 - dockerd's sentence, one piece
    made: dict[str, Any] = {"names": [name] if name else list(names or ()), "action": rule.get("action", "")}
    if rule.get("errnoRet") is not None:
        made["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        made["args"] = [
            {"index": a.get("index", 0), "value": a.get("value", 0), "valueTwo": a.get("valueTwo", 0), "op": a["op"]}
            for a in rule["args"]
        ]
    return made
