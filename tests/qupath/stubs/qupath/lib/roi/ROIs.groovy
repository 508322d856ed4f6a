package qupath.lib.roi

class ROIs {
    static createPolygonROI(List points, plane) { new StubRoi(points*.x, points*.y) }
    static createRectangleROI(double x, double y, double width, double height, plane) {
        new StubRoi([x, x + width], [y, y + height])
    }
}

class StubRoi {
    List<Double> xs, ys

    StubRoi(List<Double> xs, List<Double> ys) { this.xs = xs; this.ys = ys }
    double getBoundsX() { xs.min() }
    double getBoundsY() { ys.min() }
    double getBoundsWidth() { xs.max() - xs.min() }
    double getBoundsHeight() { ys.max() - ys.min() }
    double getCentroidX() { (xs.min() + xs.max()) / 2 }
    double getCentroidY() { (ys.min() + ys.max()) / 2 }
    boolean isArea() { true }
}
