//! Pulls of images that are not there.

use crate::{
    args::Args,
    measure::{Figures, millis, timed},
    pods::Lab,
};

/// Removes and pulls an image several times.
pub async fn measure(
    args: &Args,
    lab: &Lab,
    image: &str,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    eprintln!("  {} pulls of {image}", args.pull_count);
    let mut times = Vec::new();
    let mut cpu = std::time::Duration::ZERO;
    for _ in 0..args.pull_count {
        lab.client.remove_image(image).await?;
        let before = lab.usage.cpu()?;
        timed(&mut times, lab.client.pull(image)).await?;
        cpu += lab.usage.cpu()?.saturating_sub(before);
    }
    lab.client.remove_image(image).await?;
    let name = image.rsplit('/').next().unwrap_or(image);
    figures.times(format!("pull of {name}"), &times, None);
    let each = millis(cpu) / args.pull_count.max(1) as f64;
    figures.value(format!("CPU time per pull of {name}"), "ms", each, None);
    Ok(())
}
