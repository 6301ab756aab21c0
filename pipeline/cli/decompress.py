"""``swath decompress``: a coded file as a plain one again, or what is whole of it."""

from __future__ import annotations

from pipeline.cli.options import Backend, BackendOption, CubeFile, Json, NewHsi

#: The file is whole, but lines were lost.
LINES_LOST = 3


def decompress(
    file: CubeFile, out: NewHsi, backend: BackendOption = Backend.cpu, json: Json = False
) -> int:
    """Write a coded file with plain pixels.

    Everything else in the file is kept. Of a damaged file the blocks that are whole are decoded;
    the lines of others keep their place as lost ones.
    Exit status 0 when all is whole, 3 when lines are missing, 1 when other entries are.
    """
    from pipeline.cli.output import count_text, print_json, short_path, size_text, warn
    from pipeline.cli.waiting import progress
    from pipeline.container.decompress import decompress as decompress_file
    from pipeline.errors import SwathError

    with progress(f"decompress to {out}") as report:
        made = decompress_file(file, out, backend=backend.value, progress=report)
    for text in made.problems:
        warn(text)
    if json:
        print_json(
            {
                "file": str(made.path),
                "lines": made.lines,
                "raw_bytes": made.raw_bytes,
                "coded_bytes": made.coded_bytes,
                "max_error": made.max_error,
                "missing": [{"first_line": first, "lines": count} for first, count in made.missing],
                "problems": made.problems,
            }
        )
    else:
        print(short_path(made.path))
        print(f"  {count_text(made.lines, 'line')}, {size_text(made.raw_bytes)}")
        if made.max_error:
            print(f"  max error {count_text(made.max_error, 'count')}")
        for first, count in made.missing:
            where = f"line {first}" if count == 1 else f"lines {first} to {first + count - 1}"
            print(f"  missing: {where}")
    if made.missing:
        return LINES_LOST
    return SwathError.exit_status if made.problems else 0
