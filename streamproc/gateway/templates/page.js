"use strict";
async function refresh() {
  if (document.hidden || !getSelection().isCollapsed) return;
  try {
    const answer = await fetch(location.href);
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const open of document.querySelectorAll("details[open]")) page.getElementById(open.id)?.setAttribute("open", "");
    document.title = page.title;
    document.querySelector("main").replaceWith(page.querySelector("main"));
    document.body.classList.remove("old");
  } catch {
    document.body.classList.add("old");
  }
}
setInterval(refresh, 5000);
document.addEventListener("visibilitychange", refresh);
