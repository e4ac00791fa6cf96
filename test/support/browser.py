"""Debian's Chromium, headless, for tests of web pages: what it shows, what it asks for, what it complains about."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import zxingcpp
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM = Path("/usr/bin/chromium")
CHROMEDRIVER = Path("/usr/bin/chromedriver")
PAGE_TIMEOUT_S = 30
# As root it needs --no-sandbox; the others keep it from calling its maker's servers.
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",
)
HEIGHT = 800

# Every text on the page with its colour, the first opaque background behind it, and whether it is large
# (WCAG 2.2, "large scale": 24 px, or 18.66 px and bold).
TEXTS = """
const background = element => {
  for (; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
};
const found = [];
const add = (text, style, colour) => {
  const size = parseFloat(style.fontSize);
  found.push([text, style.color, colour, size >= 24 || (size >= 18.66 && style.fontWeight >= 700)]);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  if (node.data.trim() && node.parentElement.checkVisibility())
    add(node.data.trim(), getComputedStyle(node.parentElement), background(node.parentElement));
}
for (const element of document.querySelectorAll("body *")) {
  const style = getComputedStyle(element, "::before");
  if (style.content !== "none") add(style.content, style, style.backgroundColor);
}
return found;
"""

# From a PNG picture to its grey values, row by row.
GREY = """
const [png, done] = arguments;
const image = new Image();
image.onload = () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  const grey = [];
  for (let at = 0; at < data.length; at += 4) grey.push(Math.round((data[at] + data[at + 1] + data[at + 2]) / 3));
  done([image.height, image.width, grey]);
};
image.src = "data:image/png;base64," + png;
"""


@dataclass(frozen=True)
class Text:
    """A text on a page, and its contrast to what is behind it (1 to 21)."""

    text: str
    contrast: float
    large: bool


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Load a page, and forget what was asked for and complained about before."""
        self.complaints()
        self.requests()
        self.driver.get(url)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def find(self, selector: str) -> WebElement:
        """The first element of a CSS selector. Raises selenium's NoSuchElementException."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def screen(self, width: int, scheme: str) -> None:
        """Be a screen of ``width`` CSS pixels, a phone's below 500, whose owner prefers ``scheme``: light or dark."""
        size = {"width": width, "height": HEIGHT, "deviceScaleFactor": 2 if width < 500 else 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        preferred = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preferred)

    def screenshot(self, path: Path) -> None:
        """Save a picture of the whole page as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(shot["data"]))

    def overflow(self) -> int:
        """How many pixels the page is wider than the screen."""
        return self.driver.execute_script("return document.documentElement.scrollWidth - innerWidth")

    def texts(self) -> list[Text]:
        """All texts that are shown."""
        return [
            Text(text, contrast(colour, background), large)
            for text, colour, background, large in self.driver.execute_script(TEXTS)
        ]

    def scan(self, selector: str) -> str:
        """The text of the QR code that an element shows, as a camera sees it; the window shows another page then."""
        element = self.find(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        png = element.screenshot_as_base64
        self.driver.get("about:blank")
        height, width, grey = self.driver.execute_async_script(GREY, png)
        return zxingcpp.read_barcode(memoryview(bytes(grey)).cast("B", (height, width))).text

    def complaints(self) -> list[str]:
        """What the console said since the page was opened, or since this was asked last."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The URLs that were asked for since the page was opened, or since this was asked last."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


@contextmanager
def browser(profile: Path, addresses: Mapping[str, str]) -> Iterator[Browser]:
    """
    Run a browser with a new profile in the directory ``profile``.

    ``addresses`` are those of the hosts that it may find; there are no others for it, but loopback by its number.
    """
    missing = [str(path) for path in (CHROMIUM, CHROMEDRIVER) if not path.exists()]
    if missing:
        raise FileNotFoundError(f"{' and '.join(missing)} missing; `make lab-deps` installs the browser")
    rules = [f"MAP {name} {address}" for name, address in addresses.items()]
    rules += ["MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1", *(f"EXCLUDE {address}" for address in addresses.values())]
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}", f"--host-resolver-rules={', '.join(rules)}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    driver.set_page_load_timeout(PAGE_TIMEOUT_S)
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def contrast(one: str, two: str) -> float:
    """The contrast of two CSS colours as a browser computes them, ``rgb(...)`` (WCAG 2.2, "contrast ratio")."""
    darker, lighter = sorted((_luminance(one), _luminance(two)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    """WCAG 2.2, "relative luminance"."""
    values = [int(value) / 255 for value in colour.partition("(")[2].rstrip(")").split(",")]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    red, green, blue = linear
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
