/* Compiles the scripts against the stubs, then runs the one that asks the server; prints what came of it as JSON. */
import groovy.json.JsonOutput
import org.codehaus.groovy.control.CompilationUnit
import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.Phases
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.roi.ROIs
import qupath.lib.scripting.QP

def (folder, address) = args
def loader = this.class.classLoader
def compiled = new File(folder).listFiles().findAll { it.name.endsWith(".groovy") }.collect { script ->
    def unit = new CompilationUnit(CompilerConfiguration.DEFAULT, null, loader)
    unit.addSource(script)
    unit.compile(Phases.CLASS_GENERATION)
    script.name
}.sort()

def run = { selected, String server ->
    QP.selected = selected
    QP.annotations = [
        PathObjects.createAnnotationObject(ROIs.createRectangleROI(120, 220, 10, 10, null), PathClass.fromString("normal")),
        PathObjects.createAnnotationObject(ROIs.createRectangleROI(900, 20, 10, 10, null), PathClass.fromString("normal")),
        PathObjects.createAnnotationObject(ROIs.createRectangleROI(120, 220, 10, 10, null), PathClass.fromString("Artery")),
        PathObjects.createAnnotationObject(ROIs.createRectangleROI(120, 220, 10, 10, null), null),
    ]
    def binding = new Binding([args: ["glomeruli", server] as String[]])
    try {
        new GroovyShell(loader, binding).evaluate(new File(folder, "segment_selection.groovy"))
    } catch (IOException | IllegalArgumentException error) {
        return [error: error.message]
    }
    [annotations: QP.annotations.collect {
        [name: it.pathClass?.name, color: it.pathClass?.color, x: it.roi.xs, y: it.roi.ys]
    }]
}

QP.image = [width: 1000, height: 800, file: "/data/slide one.svs"]
println "RESULT " + JsonOutput.toJson([
    compiled : compiled,
    selection: run(ROIs.createRectangleROI(100.4, 200.6, 50, 1000, null), address),
    whole    : run(null, address),
    refused  : run(null, address + "/broken"),
    outside  : run(ROIs.createRectangleROI(2000, 0, 5, 5, null), address),
    absent   : run(null, "http://127.0.0.1:9"),
])
