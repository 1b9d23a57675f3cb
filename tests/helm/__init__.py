"""Tests of the chart: its values and settings always, its rendering where helm is."""
