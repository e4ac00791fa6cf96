"""Reads a web page's QR code as a phone would."""

import re

import zxingcpp

MODULE = 8


def read(svg: str) -> str:
    """
    Return the text of a QR code in an SVG image.

    The image is one path of horizontal strokes, a module high, as segno writes it (SVG 1.1 section 8.3). Raises
    ValueError where a reader finds no code in it.
    """
    width = int(re.search(r'<svg [^>]*\bwidth="(\d+)"', svg)[1])
    pixels = bytearray(b"\xff" * width * width)
    x = y = 0.0
    path = re.search(r'class="qrline"[^>]* d="([^"]*)"', svg)[1]
    for command, first, second in re.findall(r"([Mmh])([-\d.]+)(?: ([-\d.]+))?", path):
        if command == "h":
            for row in range(int(y) * MODULE, (int(y) + 1) * MODULE):
                begin = row * width + int(x) * MODULE
                pixels[begin : begin + int(first) * MODULE] = bytes(int(first) * MODULE)
            x += float(first)
        elif command == "M":
            x, y = float(first), float(second)
        else:
            x, y = x + float(first), y + float(second)
    found = zxingcpp.read_barcodes(memoryview(pixels).cast("B", (width, width)))
    if len(found) != 1:
        raise ValueError(f"{len(found)} codes in the image, one was expected")
    return found[0].text
