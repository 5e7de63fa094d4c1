// Before anything is drawn, so that a chosen theme doesn't flash.
{
  const chosen = localStorage.getItem("tidegate-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
