"""Compiled kernels from numba's cache, without what numba needs to compile.

To load a kernel numba first makes itself ready to compile one: it imports what it knows of NumPy, and every
module that a function inlined into the kernel came from, SciPy among them; and it reads the kernel's bitcode
beside its machine code, in case another one is compiled that calls it. That is more than a second of
processor time and 30 MB, of which machine code from the cache needs nothing. Whatever is missing in the cache
is compiled as ever, after numba has made itself ready then.
"""

import sys
from typing import Any

import llvmlite.binding as llvm
import numba.core.caching
import numba.core.codegen
import numba.core.environment
import numba.core.runtime.nrt

# Nothing of this is typed, and mypy knows half of it.
caching: Any = numba.core.caching
codegen: Any = numba.core.codegen
environment: Any = numba.core.environment
runtime: Any = numba.core.runtime.nrt


def load_without_compiler() -> None:
    """Make this process load cached kernels without the compiler: for a worker whose kernels are compiled."""
    # Kernels have the names of these two functions, and the methods of this class, in their cached form:
    # there is no other place to say it.
    caching.Cache.load_overload = _load_overload
    environment._rebuild_env = _rebuild_env
    codegen.JITCPUCodegen.unserialize_library = _unserialize_library


def are_cached(*kernels: Any) -> bool:
    """Return whether each kernel was compiled from its present source, for any signature."""
    return all(kernel._cache._cache_file._load_index() for kernel in kernels)


def _load_overload(self: Any, signature: Any, target_context: Any) -> Any:
    runtime.rtsys.initialize(target_context)  # arrays that a kernel makes are counted by numba's runtime
    with self._guard_against_spurious_io_errors():
        return self._load_overload(signature, target_context)


class _CachedLibrary(codegen.JITCodeLibrary):
    """Machine code from the cache. Its bitcode is read when something is compiled that calls it."""

    _bitcode: bytes | None = None
    _read: Any = None

    @property
    def _shared_module(self) -> Any:
        if self._read is None and self._bitcode is not None:
            self._read, self._bitcode = llvm.parse_bitcode(self._bitcode), None
            self._codegen._engine._load_defined_symbols(self._read)
        return self._read

    @_shared_module.setter
    def _shared_module(self, module: Any) -> None:
        self._read = module

    def get_pointer_to_function(self, name: str) -> int:
        """Ask for it without the list of what is defined, for which the bitcode would be read."""
        address: int = self._codegen._engine.get_function_address(name)
        return address


def _unserialize_library(self: Any, serialized: Any) -> Any:
    name, kind, data = serialized
    if kind != "object":
        return self._library_class._unserialize(self, serialized)
    library = _CachedLibrary(self, name)
    machine_code, library._bitcode = data
    library.enable_object_caching()
    library._set_compiled_object(machine_code)
    library._finalize_final_module()
    return library


def _rebuild_env(module: str, constants: list[Any], name: str) -> Any:
    """Make the environment of a function; its globals are for code that no kernel has: the interpreter's."""
    known = environment.lookup_environment(name)
    if known is not None:
        return known
    imported = sys.modules.get(module)
    env = environment.Environment({"__name__": module} if imported is None else vars(imported))
    env.consts[:] = constants
    env.env_name = name
    environment.Environment._memo[name] = env
    return env
