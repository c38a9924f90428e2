"""Carbon emissions of energy: intensities of electricity, and the Software Carbon Intensity (ISO/IEC 21031)."""
