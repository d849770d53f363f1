"""Only the C kernel: everything else stands in setup.cfg. Optional, for the references do without a compiler."""

from setuptools import Extension, setup

setup(ext_modules=[Extension(
    "oomguard._kernel", ["agent/oomguard/_kernel.c"], optional=True, py_limited_api=True,
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    extra_compile_args=["-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra"])])
