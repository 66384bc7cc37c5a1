// How all elements look. Whoever uses them sets the custom properties of the first rule, or styles parts.
import { css } from 'lit';

export const styles = css`
  :host {
    --_text: var(--pat-text, light-dark(#16202e, #e4eaf2));
    --_muted: var(--pat-muted, light-dark(#526071, #a4b1c3));
    --_surface: var(--pat-surface, light-dark(#ffffff, #161e2a));
    --_sunken: var(--pat-sunken, light-dark(#f3f6f9, #0f1620));
    --_line: var(--pat-line, light-dark(#dde3ea, #2a3646));
    --_control: var(--pat-control, light-dark(#8391a3, #64748b));
    --_accent: var(--pat-accent, light-dark(#0b6b5e, #5fdcc5));
    --_on-accent: var(--pat-on-accent, light-dark(#ffffff, #06231e));
    --_danger: var(--pat-danger, light-dark(#b3261e, #ff9f96));
    --_danger-soft: var(--pat-danger-soft, light-dark(#fdeeed, #3a1c1f));
    --_good: var(--pat-good, light-dark(#1b6b34, #84dfa0));
    --_good-soft: var(--pat-good-soft, light-dark(#e7f5ea, #14301f));
    --_warning: var(--pat-warning, light-dark(#8a4b00, #f5c76b));
    --_warning-soft: var(--pat-warning-soft, light-dark(#fff3dc, #36290f));
    --_radius: var(--pat-radius, 8px);
    --_font: var(--pat-font, system-ui, sans-serif);
    --_mono: var(--pat-mono, ui-monospace, 'Cascadia Mono', 'DejaVu Sans Mono', monospace);
    display: block;
    color: var(--_text);
    font: 0.9375rem/1.5 var(--_font);
    text-align: start;
  }
  :host([hidden]) { display: none; }
  *, *::before, *::after { box-sizing: border-box; }
  h2, h3, h4, p, dl, dd, ul, ol, fieldset { margin: 0; padding: 0; }
  ul, ol { list-style: none; }
  fieldset { border: 0; min-inline-size: 0; }
  legend { padding: 0; margin-block-end: 0.375rem; }
  h2 { font-size: 1.25rem; line-height: 1.3; font-weight: 650; letter-spacing: -0.01em; }
  h3 { font-size: 1rem; font-weight: 650; }
  h4 { font-size: 0.8125rem; font-weight: 650; color: var(--_muted); }
  a { color: var(--_accent); }
  code, .mono { font-family: var(--_mono); font-size: 0.875em; }
  bdi { unicode-bidi: isolate; }
  .unseen { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
  .group { border: 1px solid var(--_line); border-radius: var(--_radius); padding: 0.5rem 1rem 1rem; }
  .group > legend { margin: 0; padding-inline: 0.375rem; margin-inline-start: -0.375rem; }
  .facts { display: flex; flex-wrap: wrap; gap: 0.125rem 1.25rem; }
  .points { list-style: disc; padding-inline-start: 1.25rem; display: grid; gap: 0.25rem; }
  .nowrap { white-space: nowrap; }
  .more { padding-block-start: 0.75rem; }
  .below { align-self: end; }
  [hidden] { display: none !important; }

  .stack { display: grid; gap: 1rem; }
  .tight { display: grid; gap: 0.375rem; }
  .row { display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: center; }
  .spread { display: flex; flex-wrap: wrap; gap: 0.75rem 1rem; align-items: center; justify-content: space-between; }
  .end { justify-content: flex-end; }
  .grow { flex: 1 1 12rem; min-inline-size: 0; }
  .muted { color: var(--_muted); }
  .small { font-size: 0.8125rem; }
  .any { overflow-wrap: anywhere; white-space: pre-wrap; }
  .clamp { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; overflow-wrap: anywhere; }

  .card {
    background: var(--_surface); border: 1px solid var(--_line); border-radius: var(--_radius);
    padding: clamp(1rem, 3vw, 1.25rem);
  }
  .list { display: grid; background: var(--_surface); border: 1px solid var(--_line); border-radius: var(--_radius); }
  .list > li { padding: 0.875rem clamp(0.875rem, 3vw, 1.25rem); min-inline-size: 0; }
  .list > li + li { border-block-start: 1px solid var(--_line); }
  .empty { padding: 2.5rem 1.25rem; text-align: center; display: grid; gap: 0.75rem; justify-items: center; }

  button {
    font: inherit; font-weight: 550; color: var(--_text); background: var(--_surface); cursor: pointer;
    border: 1px solid var(--_control); border-radius: calc(var(--_radius) - 2px); padding: 0.375rem 0.875rem; min-block-size: 2.25rem;
  }
  button:hover { background: var(--_sunken); }
  button.primary { background: var(--_accent); border-color: var(--_accent); color: var(--_on-accent); }
  button.primary:hover { filter: brightness(1.08); }
  button.danger { color: var(--_danger); border-color: var(--_danger); }
  button.danger:hover { background: var(--_danger-soft); }
  button.primary.danger { background: var(--_danger); color: light-dark(#ffffff, #3a0906); }
  button.plain { border-color: transparent; background: none; color: var(--_accent); padding-inline: 0.25rem; margin-inline: -0.3125rem; min-block-size: 1.75rem; padding-block: 0.125rem; }
  button.plain:hover { text-decoration: underline; }
  button:disabled { opacity: 0.55; cursor: default; }
  :focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }

  label, .label { font-weight: 550; }
  .field { display: grid; gap: 0.25rem; align-content: start; min-inline-size: 0; }
  .field > .small { order: 2; }
  input:not([type='checkbox'], [type='radio']), select, textarea {
    font: inherit; color: inherit; background: var(--_surface); inline-size: 100%; min-inline-size: 0;
    border: 1px solid var(--_control); border-radius: calc(var(--_radius) - 2px); padding: 0.375rem 0.625rem; min-block-size: 2.25rem;
  }
  textarea { resize: vertical; min-block-size: 4.5rem; }
  textarea.mono { font-family: var(--_mono); font-size: 0.8125rem; overflow-wrap: anywhere; }
  ::placeholder { color: var(--_muted); opacity: 1; }
  input[type='checkbox'], input[type='radio'] { accent-color: var(--_accent); inline-size: 1.0625rem; block-size: 1.0625rem; margin: 0; flex: none; }
  label.check { display: flex; gap: 0.5rem; align-items: flex-start; font-weight: 400; }
  label.check input { margin-block-start: 0.2rem; }
  .columns { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(12rem, 100%), 1fr)); }

  .badge {
    display: inline-block; font-size: 0.75rem; font-weight: 600; line-height: 1.5; padding: 0 0.5rem; border-radius: 99px;
    background: var(--_sunken); color: var(--_muted); white-space: nowrap;
  }
  .badge.good { background: var(--_good-soft); color: var(--_good); }
  .badge.bad { background: var(--_danger-soft); color: var(--_danger); }
  .badge.warning { background: var(--_warning-soft); color: var(--_warning); }
  .notice { border-radius: var(--_radius); padding: 0.75rem 1rem; display: grid; gap: 0.25rem; background: var(--_sunken); overflow-wrap: anywhere; }
  .notice.bad { background: var(--_danger-soft); color: var(--_danger); }
  .notice.warning { background: var(--_warning-soft); color: var(--_warning); }
  .notice.good { background: var(--_good-soft); color: var(--_good); }
  .notice p + p { color: var(--_text); }

  dl { display: grid; grid-template-columns: minmax(7rem, auto) 1fr; gap: 0.375rem 1rem; }
  dt { color: var(--_muted); }
  dd { min-inline-size: 0; overflow-wrap: anywhere; }
  @media (max-width: 30rem) {
    dl { grid-template-columns: 1fr; gap: 0; }
    dd + dt { margin-block-start: 0.5rem; }
  }

  summary { cursor: pointer; color: var(--_accent); font-weight: 550; inline-size: fit-content; border-radius: 4px; }

  dialog {
    color: inherit; background: var(--_surface); border: 1px solid var(--_line); border-radius: calc(var(--_radius) + 4px); padding: 0;
    inline-size: min(40rem, calc(100vw - 1.5rem)); max-block-size: calc(100dvh - 1.5rem); overflow: auto; overscroll-behavior: contain;
    box-shadow: 0 1.5rem 4rem rgb(0 0 0 / 0.3);
  }
  dialog.narrow { inline-size: min(30rem, calc(100vw - 1.5rem)); }
  dialog::backdrop { background: rgb(8 14 22 / 0.55); }
  dialog > form, dialog > div { display: grid; gap: 1.125rem; padding: clamp(1rem, 4vw, 1.5rem); }
  .actions { display: flex; flex-wrap: wrap; gap: 0.5rem; justify-content: flex-end; }
  .secret {
    display: block; font-family: var(--_mono); font-size: 0.8125rem; overflow-wrap: anywhere; user-select: all;
    background: var(--_sunken); border: 1px solid var(--_line); border-radius: calc(var(--_radius) - 2px); padding: 0.75rem;
    max-block-size: 11rem; overflow: auto;
  }
  .table { overflow-x: auto; border: 1px solid var(--_line); border-radius: var(--_radius); background: var(--_surface); }
  table { border-collapse: collapse; inline-size: 100%; }
  th, td { text-align: start; padding: 0.5rem 0.875rem; vertical-align: top; }
  thead th { font-size: 0.8125rem; color: var(--_muted); font-weight: 600; white-space: nowrap; }
  tbody tr { border-block-start: 1px solid var(--_line); }
  @media (max-width: 30rem) {
    .folds thead { display: none; }
    .folds tr { display: flex; flex-wrap: wrap; padding-block: 0.375rem; }
    .folds th { flex: 1 0 100%; padding-block: 0.25rem 0; }
    .folds td { display: flex; gap: 0.375rem; align-items: center; font-size: 0.8125rem; padding: 0.25rem 0 0.25rem 0.875rem; }
    .folds td::after { content: attr(data-label); }
  }
  .count { text-align: end; font-variant-numeric: tabular-nums; white-space: nowrap; }
  .most { inline-size: 100%; font-weight: inherit; }
  .share { display: block; inline-size: 100%; block-size: 3px; border-radius: 2px; background: var(--_sunken); }
  caption { text-align: start; padding: 0.5rem 0.875rem 0; }
  .chart { display: block; inline-size: 100%; block-size: 4.5rem; border-block-end: 1px solid var(--_control); }
  .chart .day { fill: transparent; }
  .chart g:hover .day { fill: var(--_sunken); }
  .passed { fill: var(--_accent); }
  .refused { fill: var(--_danger); }
  .facts > .passed::before, .facts > .refused::before {
    content: ''; display: inline-block; inline-size: 0.625rem; block-size: 0.625rem; border-radius: 2px; margin-inline-end: 0.375rem;
    background: var(--_accent); forced-color-adjust: none;
  }
  .facts > .refused::before { background: var(--_danger); }
  .bar { block-size: 3px; border-radius: 2px; overflow: hidden; background: var(--_line); }
  .bar::before { content: ''; display: block; inline-size: 30%; block-size: 100%; background: var(--_accent); animation: slide 1.2s infinite ease-in-out; }
  @keyframes slide { from { transform: translateX(-100%); } to { transform: translateX(340%); } }
  @media (prefers-reduced-motion: reduce) { .bar::before { animation: none; inline-size: 100%; opacity: 0.5; } }
`;
