"""A real headless Chromium, driven by Selenium. What the page writes to its console fails the test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.support.waiting import until
from tidegate.stack import debian_programs

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # it shows only our own page, also where root runs the tests
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--force-device-scale-factor=1",
    "--lang=en-GB",
)


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome, base: str) -> None:
        self.driver = driver
        self.base = base

    def open(self, path: str) -> None:
        """Load a page anew."""
        self.driver.get(self.base + path)

    @property
    def path(self) -> str:
        """Where it is."""
        return self.driver.current_url.removeprefix(self.base)

    def all(self, selector: str) -> list[WebElement]:
        """The elements that are there now."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Their texts, read at once, since the page may draw itself anew meanwhile."""
        found: list[str] = self.driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText.trim())", selector
        )
        return found

    def wait(self, selector: str, text: str = "") -> None:
        """Until an element with this text is there."""
        until(
            lambda: any(text in one for one in self.texts(selector)),
            f"{selector} with {text!r} on {self.path}",
            timeout_seconds=30,
        )

    def press(self, *keys: str) -> None:
        """Keys, for whatever has the focus."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def write(self, selector: str, text: str) -> None:
        """Into a field, in place of what was there."""
        field = self.all(selector)[0]
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text or Keys.DELETE)

    def script(self, text: str, *values: object) -> object:
        """What a function's body returns in the page."""
        return self.driver.execute_script(text, *values)

    def complaints(self) -> list[str]:
        """What the console got since the last time: errors of scripts, and what the page's own rules refused.

        Hints about drawing are left out: reading pixels back, as a test does, brings one.
        """
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["source"] != "rendering"]


@contextmanager
def browser_at(base: str, width: int = 1400, height: int = 1000) -> Iterator[Browser]:
    """A browser for one address. Raises PartMissing where Chromium can't be had."""
    program, driver = debian_programs.browser()
    options = webdriver.ChromeOptions()
    options.binary_location = str(program)
    for option in _OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(str(driver), env=dict(os.environ) | debian_programs.browser_environment())
    chrome = webdriver.Chrome(options=options, service=service)
    try:
        chrome.set_window_size(width, height)
        yield Browser(chrome, base)
    finally:
        chrome.quit()
