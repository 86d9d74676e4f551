//! Plots as SVG that can be read on light and dark pages. Entry point: [`Plot::draw`].

use anyhow::anyhow;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Width and height.
const SIZE: (u32, u32) = (760, 300);

/// Of text and axes: a grey that is read on white and on black.
const GREY: RGBColor = RGBColor(125, 133, 144);

/// Of lines, as far apart as they can be, also for those who do not see red or green.
const COLOURS: [RGBColor; 4] =
    [RGBColor(47, 129, 247), RGBColor(219, 109, 40), RGBColor(46, 160, 67), RGBColor(163, 113, 247)];

/// Lines over one axis.
#[derive(Debug)]
pub struct Plot<'a> {
    /// What the horizontal axis has.
    pub across: &'a str,
    /// What the vertical axis has.
    pub up: &'a str,
    /// Name and points of each line.
    pub lines: Vec<(&'a str, Vec<(f64, f64)>)>,
    /// Times to shade, with what happened.
    pub shaded: Vec<(&'a str, [f64; 2])>,
    /// Whether points are marked.
    pub marked: bool,
}

impl Plot<'_> {
    /// Returns it as SVG.
    ///
    /// # Errors
    ///
    /// If it has no points.
    pub fn draw(&self) -> anyhow::Result<String> {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::MIN, f64::max);
        let (right, top) = (most(|point| point.0), most(|point| point.1).max(1e-9) * 1.12);
        let left = points().map(|point| point.0).fold(f64::MAX, f64::min);
        if left >= right {
            return Err(anyhow!("a plot needs points at two places"));
        }
        let mut svg = String::new();
        self.draw_into(&mut svg, [left, right], top).map_err(|error| anyhow!("{error}"))?;
        Ok(svg + "\n")
    }

    fn draw_into(
        &self,
        svg: &mut String,
        [left, right]: [f64; 2],
        top: f64,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let text = ("sans-serif", 13).into_font().color(&GREY);
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .margin_top(24)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(left..right, 0.0..top)?;
        for (what, [from, to]) in &self.shaded {
            let corners = [(*from, 0.0), (*to, top)];
            chart.draw_series([Rectangle::new(corners, GREY.mix(0.18).filled())])?;
            let middle = text.clone().pos(Pos::new(HPos::Center, VPos::Top));
            chart.draw_series([Text::new((*what).to_owned(), (f64::midpoint(*from, *to), top), middle)])?;
        }
        let label = |value: &f64| short(*value);
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(GREY)
            .label_style(text.clone())
            .axis_desc_style(text.clone())
            .x_desc(self.across)
            .y_desc(self.up)
            .y_labels(6)
            .x_label_formatter(&label)
            .y_label_formatter(&label)
            .draw()?;
        let (width, _) = SIZE;
        let mut at = 80;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS) {
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
            if self.marked {
                chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
            }
            area.draw(&Rectangle::new([(at, 9), (at + 14, 13)], colour.filled()))?;
            area.draw(&Text::new((*name).to_owned(), (at + 20, 4), text.clone()))?;
            at += 40 + 8 * i32::try_from(name.len())?;
        }
        debug_assert!(at < i32::try_from(width)? + 200, "the names fit beside each other");
        area.present()?;
        Ok(())
    }
}

/// Returns a number as axes have it.
fn short(value: f64) -> String {
    for (factor, unit) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value.abs() >= factor {
            return format!("{}{unit}", trimmed(value / factor));
        }
    }
    trimmed(value)
}

/// Returns a number with at most two digits after the point.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_lines_names_and_axes_and_no_background() {
        let lines = vec![("one", vec![(0.0, 1.0), (10.0, 2500.0)]), ("other", vec![(0.0, 0.5), (10.0, 0.0)])];
        let shaded = vec![("away", [2.0, 4.0])];
        let plot = Plot { across: "seconds", up: "requests", lines, shaded, marked: true };
        let svg = plot.draw().expect("it has points");
        for part in ["one", "other", "seconds", "requests", "away", "2.5k", "<polyline"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        let full = format!("width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1);
        assert!(!svg.lines().any(|line| line.starts_with("<rect") && line.contains(&full)), "no background");
        let empty = Plot { lines: vec![("one", vec![(1.0, 1.0)])], ..plot };
        assert!(empty.draw().is_err());
    }
}
