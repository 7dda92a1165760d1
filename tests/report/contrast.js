// Returns [texts checked, those below 4.5:1], each against the colour painted behind it.
// Cells of a matrix are shaded; these texts are checked against their own cell.
const parse = (c) => {
  const n = c.match(/[\d.]+/g).map(Number);
  return c.startsWith("color(") ? [...n.slice(0, 3).map((v) => v * 255), n[3] ?? 1]
                                : [n[0], n[1], n[2], n[3] ?? 1];
};
const over = (top, under) => under.map((u, i) => i < 3 ? top[i] * top[3] + u * (1 - top[3]) : 1);
const lin = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const lum = (c) => 0.2126 * lin(c[0]) + 0.7152 * lin(c[1]) + 0.0722 * lin(c[2]);
const ratio = (a, b) => {
  const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
};
const behind = (e) => {
  const layers = [];
  for (let p = e; p; p = p.parentElement) {
    const c = parse(getComputedStyle(p).backgroundColor);
    if (c[3] > 0) layers.push(c);
    if (c[3] === 1) break;
  }
  return layers.reverse().reduce((under, top) => over(top, under));
};
const weak = [];
let checked = 0;
const check = (e, ink, paper) => {
  checked += 1;
  const r = ratio(over(ink, paper), paper);
  if (r < 4.5) weak.push([e.textContent.trim().slice(0, 60), r.toFixed(2)]);
};
for (const e of document.querySelectorAll("body *:not(svg *):not(svg)")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (own && e.checkVisibility()) check(e, parse(getComputedStyle(e).color), behind(e));
}
for (const svg of document.querySelectorAll("svg")) {
  const shapes = [...svg.querySelectorAll("path")].map((p) => [p, p.getBoundingClientRect()]);
  const page = behind(svg.parentElement);
  for (const t of svg.querySelectorAll("text")) {
    if (!t.textContent.trim()) continue;
    const b = t.getBoundingClientRect();
    const [x, y] = [b.left + b.width / 2, b.top + b.height / 2];
    let paper = page;
    for (const [p, r] of shapes) {
      const s = getComputedStyle(p);
      if (s.fill === "none" || r.left > x || r.right < x || r.top > y || r.bottom < y) continue;
      // Only areas large enough to hold the text are behind it.
      if (r.width < b.width * 0.8 || r.height < b.height * 0.8) continue;
      const c = parse(s.fill);
      paper = over([c[0], c[1], c[2], c[3] * s.fillOpacity * s.opacity], paper);
    }
    check(t, parse(getComputedStyle(t).fill), paper);
  }
}
return [checked, weak];
