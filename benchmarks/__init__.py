"""Measurements that are repeated by hand: speed and agreement with references. Not part of the
package.
"""
