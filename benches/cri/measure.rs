//! Samples, and what is said of them.

use std::time::{Duration, Instant};

/// What a figure is compared with on the kernel's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floor {
    /// The time of a bare pod.
    PodTime,
    /// The CPU time of a bare pod.
    PodCpu,
    /// The time of a bare exec.
    ExecTime,
    /// The CPU time of a bare exec.
    ExecCpu,
}

/// One figure.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// In what.
    pub unit: &'static str,
    /// The median, or the only value.
    pub p50: f64,
    /// The 95th percentile, where there are several values.
    pub p95: Option<f64>,
    /// How many values there are.
    pub samples: usize,
    /// What the kernel's figure for it is.
    pub floor: Option<Floor>,
}

/// A figure as it depends on the number of pods that run.
#[derive(Debug, Clone)]
pub struct Curve {
    /// What was measured.
    pub name: String,
    /// In what.
    pub unit: &'static str,
    /// Pods, and the value with so many.
    pub points: Vec<(usize, f64)>,
}

/// All figures of one runtime, in the order they were taken.
#[derive(Debug)]
pub struct Figures {
    /// Name and version.
    pub runtime: String,
    /// The figures.
    pub list: Vec<Figure>,
    /// Those that were taken with ever more pods.
    pub curves: Vec<Curve>,
}

impl Figures {
    /// None yet.
    pub fn new(runtime: String) -> Self {
        Self { runtime, list: Vec::new(), curves: Vec::new() }
    }

    /// Adds times, shown in milliseconds.
    pub fn times(&mut self, name: impl Into<String>, samples: &[Duration], floor: Option<Floor>) {
        let values: Vec<f64> = samples.iter().map(|time| millis(*time)).collect();
        let (Some(p50), p95) = (percentile(&values, 0.50), percentile(&values, 0.95)) else {
            return;
        };
        let samples = values.len();
        self.list.push(Figure { name: name.into(), unit: "ms", p50, p95, samples, floor });
    }

    /// Adds a value with so many pods.
    pub fn point(&mut self, name: &str, unit: &'static str, pods: usize, value: f64) {
        self.value(format!("{name}, {pods} pods"), unit, value, None);
        match self.curves.iter_mut().find(|curve| curve.name == name) {
            Some(curve) => curve.points.push((pods, value)),
            None => {
                let points = vec![(pods, value)];
                self.curves.push(Curve { name: name.to_owned(), unit, points });
            }
        }
    }

    /// Adds a single value.
    pub fn value(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        value: f64,
        floor: Option<Floor>,
    ) {
        let name = name.into();
        self.list.push(Figure { name, unit, p50: value, p95: None, samples: 1, floor });
    }
}

/// Milliseconds with their fraction.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The value that this share of all values does not exceed (nearest rank).
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Awaits work and adds the time it took to the samples.
pub async fn timed<T, E>(
    samples: &mut Vec<Duration>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let start = Instant::now();
    let value = work.await?;
    samples.push(start.elapsed());
    Ok(value)
}
