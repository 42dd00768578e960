// What a reader would see amiss on the page that is shown: a list of sentences.
const done = arguments[arguments.length - 1];
const SCROLLS = new Set(["auto", "scroll"]);

function texts(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    if (!walker.currentNode.parentElement.closest("code, pre, script, style, math")) {
      found.push(walker.currentNode.textContent);
    }
  }
  return found;
}

// An element that scrolls by itself, or hides what is beyond its edge by intention, keeps the page's.
function scrollsByItself(element) {
  for (let one = element; one !== document.body; one = one.parentElement) {
    if (SCROLLS.has(getComputedStyle(one).overflowX)) return true;
  }
  return false;
}

function look() {
  const found = [];
  const width = document.documentElement.clientWidth;
  const wide = document.documentElement.scrollWidth;
  const content = document.querySelector("article") ?? document.body;
  if (wide > width) found.push(`the page is ${wide - width} pixels wider than the window`);
  for (const element of content.querySelectorAll("*")) {
    if (element.getBoundingClientRect().right > width + 1 && !scrollsByItself(element)) {
      found.push(`beyond the page's edge: ${element.outerHTML.slice(0, 80)}`);
      break;
    }
  }
  for (const table of content.querySelectorAll(".md-typeset__scrollwrap")) {
    if (width > 1000 && table.scrollWidth > table.clientWidth + 1) {
      found.push(`a table is wider than its column: ${table.innerText.slice(0, 60)}`);
    }
  }
  for (const text of texts(content)) {
    const tex = text.match(/\$.*|\\[a-zA-Z([].*/);
    if (tex) found.push(`raw TeX: ${tex[0].slice(0, 60)}`);
  }
  for (const image of content.querySelectorAll("img")) {
    if (image.naturalWidth === 0) found.push(`a picture that does not load: ${image.src}`);
  }
  if (content.querySelector("merror")) found.push("a formula that is wrong");
  return found;
}

for (const closed of document.querySelectorAll("details")) closed.open = true;

// Two frames later, scripts of the page have wrapped its tables.
requestAnimationFrame(() => requestAnimationFrame(() => done(look())));
