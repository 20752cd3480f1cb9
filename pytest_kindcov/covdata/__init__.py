"""Go's coverage formats in pure Python and numpy: read, merged, written; no Go needed.

Usable without pytest and without a cluster; importing it costs numpy. What `go build -cover`
programs leave in GOCOVERDIR, and text profiles:

    from pathlib import Path
    from pytest_kindcov.covdata import profile, store

    found = store.read(["covdata/"])
    for problem in found.problems:  # what was left out, and what may mislead
        print(problem)
    whole = found.profile()  # of all programs together; None when there is nothing
    for package, statements, ran in whole.by_package():
        print(package, statements, ran)
    Path("coverage.out").write_bytes(profile.write(whole))
    store.write(found, "merged/")  # for `go tool covdata`

    program = found.programs[0]  # one build of one program
    ran = program.meta.units[program.counters != 0]  # uint32[n, 5]: lines, columns, statements

From top to bottom, each a module:

    store      directories of files, of any programs, and what is wrong with them
    profile    Go's text profile, and figures by file, package and function
    totals     many counter files of one program, added up at once
    counters   one `covcounters` file
    meta       one `covmeta` file: what a program can cover
    memory     the counters of a running process, from a copy of its memory
    model      what they hold: one order of units, one vector of counters; merge, subtract
    paths      from Go's file names to files of a repository
    modcache   and to Go's cache of modules

What can be wrong with a file is a `pytest_kindcov.errors.CoverageDataError`; `store.read` raises
none, and names each. `records` and `uleb` are not for others.
"""
