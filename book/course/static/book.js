// Colours, the menu on a phone, copy buttons, and what printing and keyboards need.
const root = document.documentElement;

const modes = { auto: "◐", light: "☀", dark: "☾" };
const themeButton = document.querySelector(".theme");
function setTheme(mode) {
  root.dataset.theme = mode;
  themeButton.textContent = modes[mode];
  themeButton.ariaLabel = `Colours: ${mode === "auto" ? "automatic" : mode}`;
  themeButton.title = themeButton.ariaLabel;
}
themeButton.addEventListener("click", () => {
  const names = Object.keys(modes);
  const mode = names[(names.indexOf(root.dataset.theme) + 1) % names.length];
  localStorage.theme = mode;
  setTheme(mode);
});
setTheme(modes[root.dataset.theme] ? root.dataset.theme : "auto");

const menu = document.querySelector(".menu");
menu.addEventListener("click", () => {
  menu.ariaExpanded = root.classList.toggle("menu-open");
});

for (const code of document.querySelectorAll("article .highlight")) {
  if (code.closest(".cell_output")) continue;
  const button = document.createElement("button");
  button.className = "copy";
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.querySelector("pre").innerText);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  code.append(button);
}

// What scrolls sideways can be reached with the keyboard.
function reachable() {
  for (const box of document.querySelectorAll("pre, div.math, table, .cell_output")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
addEventListener("load", reachable);
addEventListener("resize", reachable);

addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("article details:not(.ledger details)")) {
    fold.open = true;
  }
});
