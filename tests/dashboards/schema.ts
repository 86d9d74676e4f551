// The dashboards' types: those of Grafana, and stricter where Grafana's say "anything". `check` has TypeScript compare the JSON
// with `Written`, so that an unknown key, a wrong type or a word that is none of an enumeration is an error.

import type { Dashboard, FieldConfig, Panel, RowPanel, TableCellOptions, ValueMapping } from '@grafana/schema';
import type * as Stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as Table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as TimeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** A type as JSON has it: the values of enumerations instead of their names. */
type Json<T> = T extends string
  ? `${T}`
  : T extends number
    ? `${T}` extends `${infer N extends number}` ? N : T
    : T extends readonly (infer Item)[]
      ? Json<Item>[]
      : T extends object ? { [Key in keyof T]: Json<T[Key]> } : T;

/** A type of which anything may be absent: Grafana has defaults for what plugins read. */
type Sparse<T> = T extends readonly (infer Item)[]
  ? Sparse<Item>[]
  : T extends object ? { [Key in keyof T]?: Sparse<T[Key]> } : T;

type Reference = { type: 'prometheus'; uid: string };

/** A query of the Prometheus data source, which has no types in the package. */
type Target = {
  refId: string;
  datasource: Reference;
  editorMode: 'code';
  expr: string;
} & ({ range: true; legendFormat: string } | { instant: true; format?: 'table' });

/** A property of an override, by its name: Grafana's type lets every name and value pass. */
type Property =
  | { id: 'unit'; value: string }
  | { id: 'min' | 'max' | 'custom.width'; value: number }
  | { id: 'mappings'; value: Json<ValueMapping>[] }
  | { id: 'links'; value: { title: string; url: string }[] }
  | { id: 'custom.cellOptions'; value: Json<TableCellOptions> };

type Override = { matcher: { id: 'byName'; options: string }; properties: Property[] };

/** What joins and arranges the results of a table; the package has no types for it. */
type Transformation =
  | { id: 'merge'; options: Record<string, never> }
  | {
      id: 'organize';
      options: {
        excludeByName: Record<string, boolean>;
        indexByName: Record<string, number>;
        renameByName: Record<string, string>;
      };
    };

type PanelOf<Type, Options, Custom> = Omit<
  Json<Panel>,
  'type' | 'options' | 'fieldConfig' | 'targets' | 'transformations' | 'datasource'
> & {
  type: Type;
  datasource: Reference;
  targets: Target[];
  transformations?: Transformation[];
  options: Sparse<Json<Options>>;
  fieldConfig: {
    defaults: Omit<Json<FieldConfig>, 'custom'> & { custom?: Sparse<Json<Custom>> };
    overrides: Override[];
  };
};

type AnyPanel =
  | PanelOf<'stat', Stat.Options, Record<string, never>>
  | PanelOf<'timeseries', TimeSeries.Options, TimeSeries.FieldConfig>
  | PanelOf<'table', Table.Options, Table.FieldConfig>
  | (Omit<Json<RowPanel>, 'type' | 'panels'> & { type: 'row'; panels: [] });

/** A dashboard of ours. */
export type Written = Omit<Json<Dashboard>, 'panels'> & { panels: AnyPanel[] };
