// Grafana's types, made to accept JSON: a string of an enum's values where the enum itself is asked for.
// Everything else stays as strict as it is published.
export type Loose<T> = T extends string
  ? string extends T ? string : `${T}`
  : T extends number | boolean | null | undefined ? T
  : T extends (infer Item)[] ? Loose<Item>[]
  : T extends object ? { [Key in keyof T]: Loose<T[Key]> }
  : T;
